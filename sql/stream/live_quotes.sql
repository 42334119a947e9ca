-- The stored bid candles that start at `buckets` and the newest quote in them, from one snapshot. See
-- parts/candles_of_moments.
SELECT v.last_ts AS covered, v.last_seq AS top, c.bucket, c.open, c.high, c.low, c.close, c.bid_size AS volume,
       NULL::numeric AS turnover, c.ticks, c.first_ts, c.first_seq AS first, c.last_ts, c.last_seq AS last
FROM (VALUES (1)) AS one (x)
LEFT JOIN LATERAL (
    SELECT last_ts, last_seq FROM quote_candle_1h
    WHERE instrument_id = %(id)s ORDER BY bucket DESC LIMIT 1
) v ON true
-- include: parts/candles_of_moments

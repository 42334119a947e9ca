-- The stored bid candles of some moments and the newest quote that they contain, of one snapshot. `:source` is 1m or 1h.
SELECT v.last_ts AS covered, v.last_seq AS top, c.bucket, c.open, c.high, c.low, c.close, c.bid_size AS volume,
       NULL::numeric AS turnover, c.ticks, c.first_ts, c.first_seq AS first, c.last_ts, c.last_seq AS last
FROM (VALUES (1)) AS one (x)
LEFT JOIN LATERAL (
    SELECT last_ts, last_seq FROM quote_candle_1h
    WHERE instrument_id = %(id)s ORDER BY bucket DESC LIMIT 1
) v ON true
LEFT JOIN (
    SELECT DISTINCT ON (c.bucket) c.* FROM quote_candle_:source c, unnest(
        %(buckets)s::timestamptz[]
        || (SELECT time_bucket(%(width)s::interval, max(bucket)) FROM quote_candle_1m WHERE instrument_id = %(id)s)
    ) AS b (start)
    WHERE c.instrument_id = %(id)s AND c.bucket >= b.start AND c.bucket < b.start + %(width)s::interval
    ORDER BY c.bucket
) c ON true
ORDER BY c.bucket

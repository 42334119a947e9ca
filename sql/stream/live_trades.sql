-- The stored candles that start at `buckets` and the ids in them, from one snapshot. See parts/candles_of_moments.
-- Trades are ordered by id alone, hence the constant times.
SELECT v.ids AS covered, v.top, c.bucket, c.open, c.high, c.low, c.close, c.volume, c.turnover, c.ticks,
       TIMESTAMPTZ 'epoch' AS first_ts, c.first_id AS first, TIMESTAMPTZ 'epoch' AS last_ts, c.last_id AS last
FROM (
    SELECT ids * int8multirange(int8range(coalesce(%(low)s::bigint, upper(ids) - %(slack)s), NULL)) AS ids, upper(ids) - 1 AS top
    FROM trade_coverage WHERE instrument_id = %(id)s
) v
-- include: parts/candles_of_moments

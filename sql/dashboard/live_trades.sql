-- The stored candles of some moments and the ids that they are made of, of one snapshot. `:source` is 1m or 1h.
SELECT v.ids AS covered, v.top, c.bucket, c.open, c.high, c.low, c.close, c.volume, c.turnover, c.ticks,
       c.bucket AS first_ts, c.first_id AS first, c.bucket AS last_ts, c.last_id AS last
FROM (
    SELECT ids * int8multirange(int8range(coalesce(%(low)s::bigint, upper(ids) - %(slack)s), NULL)) AS ids, upper(ids) - 1 AS top
    FROM trade_coverage WHERE instrument_id = %(id)s
) v
LEFT JOIN (
    SELECT DISTINCT ON (c.bucket) c.* FROM trade_candle_:source c, unnest(
        %(buckets)s::timestamptz[]
        || (SELECT time_bucket(%(width)s::interval, max(bucket)) FROM trade_candle_1m WHERE instrument_id = %(id)s)
    ) AS b (start)
    WHERE c.instrument_id = %(id)s AND c.bucket >= b.start AND c.bucket < b.start + %(width)s::interval
    ORDER BY c.bucket
) c ON true
ORDER BY c.bucket

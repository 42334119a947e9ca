-- The stored candles within the wider candles that start at `buckets`, and within the newest one. `:kind` is trade or
-- quote, `:source` 1m or 1h.
LEFT JOIN (
    SELECT DISTINCT ON (c.bucket) c.* FROM :kind_candle_:source c, unnest(
        %(buckets)s::timestamptz[]
        || (SELECT time_bucket(%(width)s::interval, max(bucket)) FROM :kind_candle_1m WHERE instrument_id = %(id)s)
    ) AS b (start)
    WHERE c.instrument_id = %(id)s AND c.bucket >= b.start AND c.bucket < b.start + %(width)s::interval
    ORDER BY c.bucket
) c ON true
ORDER BY c.bucket

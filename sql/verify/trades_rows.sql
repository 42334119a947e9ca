-- The rows of a span, each read once: their ids as ranges, how many they are, and the candles of both widths made from
-- them that differ from the stored ones. Candles only of whole buckets; hours are made of the minutes, which is exact,
-- and a file's interval consists of whole hours.
--
-- A minute whose ids are as many as lie between the least and the greatest has all of them; only the ids of others are
-- looked at one by one. (A range for each of 2 M ids took twice as long, and 300 MB.)
WITH
-- include: parts/not_here
,
-- include: parts/whole_buckets
, every_minute AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 minute', ts) AS bucket, first(price, trade_id) AS open, max(price) AS high,
           min(price) AS low, last(price, trade_id) AS close, sum(quantity) AS volume, sum(price * quantity) AS turnover,
           count(*) AS ticks, min(trade_id) AS first_id, max(trade_id) AS last_id, min(ts) AS first_at, max(ts) AS last_at,
           count(*) = count(DISTINCT trade_id) AND count(*) = max(trade_id) - min(trade_id) + 1 AS whole
    FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
    GROUP BY 1
), pieces AS (
    SELECT int8range(first_id, last_id, '[]') AS ids FROM every_minute WHERE whole
    UNION ALL
    SELECT int8range(trade_id, trade_id + 1)
    FROM trades t JOIN every_minute m ON m.bucket = time_bucket(INTERVAL '1 minute', t.ts) AND NOT m.whole
    WHERE t.instrument_id = %(instrument)s AND t.ts >= %(from)s AND t.ts < %(to)s
), made AS (
    SELECT width, time_bucket(width, m.bucket) AS bucket, first(open, first_id) AS open, max(high) AS high, min(low) AS low,
           last(close, last_id) AS close, sum(volume) AS volume, sum(turnover) AS turnover, sum(ticks)::bigint AS ticks,
           min(first_id) AS first_id, max(last_id) AS last_id
    FROM every_minute m JOIN widths ON m.bucket >= lo AND m.bucket < hi
    WHERE NOT EXISTS (SELECT FROM not_here f WHERE m.bucket >= f.from_ts AND m.bucket < f.to_ts)
    GROUP BY 1, 2
), kept AS (
    SELECT INTERVAL '1 minute' AS width, * FROM trade_candle_1m
    WHERE instrument_id = %(instrument)s AND bucket >= %(from)s AND bucket < %(to)s
    UNION ALL
    SELECT INTERVAL '1 hour', * FROM trade_candle_1h
    WHERE instrument_id = %(instrument)s AND bucket >= %(from)s AND bucket < %(to)s
), stored AS (
    SELECT width, bucket, open, high, low, close, volume, turnover, ticks, first_id, last_id
    FROM kept JOIN widths USING (width)
    WHERE bucket >= lo AND bucket < hi AND NOT EXISTS (SELECT FROM not_here f WHERE bucket >= f.from_ts AND bucket < f.to_ts)
), differing AS (
    SELECT format('the %%s candle of %%s is %%s, the trades say %%s', width, bucket, to_jsonb(s) - 'bucket', to_jsonb(m) - 'bucket')
           AS text
    FROM made m FULL JOIN stored s USING (width, bucket)
    WHERE m IS DISTINCT FROM s
    LIMIT 20
)
SELECT (SELECT coalesce(range_agg(ids), '{}') FROM pieces)::text AS ids,
       (SELECT coalesce(array_agg(text), '{}') FROM differing) AS wrong, totals.*
FROM (SELECT coalesce(sum(ticks), 0)::bigint AS rows, min(first_at) AS first_at, max(last_at) AS last_at FROM every_minute)
     totals

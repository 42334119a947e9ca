-- Candles of both widths made anew from the ticks against the stored ones, both ways. Only whole buckets of the span.
-- Each tick is read once: hours are made of the minutes, which is exact, and a file's interval consists of whole hours.
WITH in_files AS MATERIALIZED (  -- of which the table has at most what came later
    SELECT from_ts, to_ts FROM archive_only WHERE instrument_id = %(instrument)s AND kind = 'trades'
), widths AS (
    SELECT width, time_bucket(width, %(from)s::timestamptz + width - INTERVAL '1 microsecond') AS lo,
           time_bucket(width, %(to)s::timestamptz) AS hi
    FROM (VALUES (INTERVAL '1 minute'), (INTERVAL '1 hour')) AS v (width)
), every_minute AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 minute', ts) AS bucket, first(price, trade_id) AS open, max(price) AS high,
           min(price) AS low, last(price, trade_id) AS close, sum(quantity) AS volume, sum(price * quantity) AS turnover,
           count(*) AS ticks, min(trade_id) AS first_id, max(trade_id) AS last_id
    FROM trades WHERE instrument_id = %(instrument)s
      AND ts >= time_bucket(INTERVAL '1 minute', %(from)s::timestamptz + INTERVAL '1 minute' - INTERVAL '1 microsecond')
      AND ts < time_bucket(INTERVAL '1 minute', %(to)s::timestamptz)
    GROUP BY 1
), minutes AS (
    SELECT * FROM every_minute WHERE NOT EXISTS (SELECT FROM in_files f WHERE bucket >= f.from_ts AND bucket < f.to_ts)
), made AS (
    SELECT INTERVAL '1 minute' AS width, * FROM minutes
    UNION ALL
    SELECT width, time_bucket(width, bucket), first(open, first_id), max(high), min(low), last(close, last_id),
           sum(volume), sum(turnover), sum(ticks)::bigint, min(first_id), max(last_id)
    FROM minutes JOIN widths ON width = INTERVAL '1 hour' AND bucket >= lo AND bucket < hi
    GROUP BY 1, 2
), kept AS (
    SELECT INTERVAL '1 minute' AS width, * FROM trade_candle_1m WHERE instrument_id = %(instrument)s
    UNION ALL
    SELECT INTERVAL '1 hour', * FROM trade_candle_1h WHERE instrument_id = %(instrument)s
), stored AS (
    SELECT width, bucket, open, high, low, close, volume, turnover, ticks, first_id, last_id
    FROM kept JOIN instruments i USING (instrument_id) JOIN widths USING (width)
    WHERE bucket >= lo AND bucket < hi AND (i.dropped_before IS NULL OR bucket >= i.dropped_before)
      AND NOT EXISTS (SELECT FROM in_files f WHERE bucket >= f.from_ts AND bucket < f.to_ts)
)
SELECT format('the %%s candle of %%s is %%s, the trades say %%s', width, bucket, to_jsonb(s) - 'bucket', to_jsonb(m) - 'bucket')
FROM made m FULL JOIN stored s USING (width, bucket)
WHERE m IS DISTINCT FROM s
LIMIT 20

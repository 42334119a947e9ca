-- Candles of both widths recomputed from the ticks, compared with the stored ones both ways. Only whole buckets of the span.
WITH in_files AS MATERIALIZED (  -- of which the table has at most what came later
    SELECT from_ts, to_ts FROM archive_only WHERE instrument_id = %(instrument)s AND kind = 'trades'
), widths AS (
    SELECT width, time_bucket(width, %(from)s::timestamptz + width - INTERVAL '1 microsecond') AS lo,
           time_bucket(width, %(to)s::timestamptz) AS hi
    FROM (VALUES (INTERVAL '1 minute'), (INTERVAL '1 hour')) AS v (width)
), made AS (
    SELECT width, time_bucket(width, ts) AS bucket, first(price, trade_id) AS open, max(price) AS high, min(price) AS low,
           last(price, trade_id) AS close, sum(quantity) AS volume, sum(price * quantity) AS turnover, count(*) AS ticks,
           min(trade_id) AS first_id, max(trade_id) AS last_id
    FROM trades, widths WHERE instrument_id = %(instrument)s AND ts >= lo AND ts < hi
      AND NOT EXISTS (SELECT FROM in_files f WHERE ts >= f.from_ts AND ts < f.to_ts)
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

-- Candles of both widths recomputed from the quotes, compared with the stored ones both ways. Only whole buckets of the span.
WITH in_files AS MATERIALIZED (  -- of which the table has at most what came later
    SELECT from_ts, to_ts FROM archive_only WHERE instrument_id = %(instrument)s AND kind = 'quotes'
), widths AS (
    SELECT width, time_bucket(width, %(from)s::timestamptz + width - INTERVAL '1 microsecond') AS lo,
           time_bucket(width, %(to)s::timestamptz) AS hi
    FROM (VALUES (INTERVAL '1 minute'), (INTERVAL '1 hour')) AS v (width)
), keyed AS (
    -- One number that sorts like (ts, seq), so that first() and last() can use it.
    SELECT *, extract(epoch FROM ts) * 1000000000000 + seq AS key
    FROM quotes, widths WHERE instrument_id = %(instrument)s AND ts >= lo AND ts < hi
      AND NOT EXISTS (SELECT FROM in_files f WHERE ts >= f.from_ts AND ts < f.to_ts)
), made AS (
    SELECT width, time_bucket(width, ts) AS bucket, first(bid, key) AS open, max(bid) AS high, min(bid) AS low,
           last(bid, key) AS close, first(ask, key) AS ask_open, max(ask) AS ask_high, min(ask) AS ask_low,
           last(ask, key) AS ask_close, sum(bid_size) AS bid_size, sum(ask_size) AS ask_size,
           sum(ask - bid) AS spread_sum, count(*) AS ticks,
           min(ts) AS first_ts, first(seq, key) AS first_seq, max(ts) AS last_ts, last(seq, key) AS last_seq
    FROM keyed GROUP BY 1, 2
), kept AS (
    SELECT INTERVAL '1 minute' AS width, * FROM quote_candle_1m WHERE instrument_id = %(instrument)s
    UNION ALL
    SELECT INTERVAL '1 hour', * FROM quote_candle_1h WHERE instrument_id = %(instrument)s
), stored AS (
    SELECT width, bucket, open, high, low, close, ask_open, ask_high, ask_low, ask_close, bid_size, ask_size, spread_sum,
           ticks, first_ts, first_seq, last_ts, last_seq
    FROM kept JOIN instruments i USING (instrument_id) JOIN widths USING (width)
    WHERE bucket >= lo AND bucket < hi AND (i.dropped_before IS NULL OR bucket >= i.dropped_before)
      AND NOT EXISTS (SELECT FROM in_files f WHERE bucket >= f.from_ts AND bucket < f.to_ts)
)
SELECT format('the %%s candle of %%s is %%s, the quotes say %%s', width, bucket, to_jsonb(s) - 'bucket', to_jsonb(m) - 'bucket')
FROM made m FULL JOIN stored s USING (width, bucket)
WHERE m IS DISTINCT FROM s
LIMIT 20

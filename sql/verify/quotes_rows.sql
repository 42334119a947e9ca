-- The rows of a span, each read once: quotes stored twice, hours whose count is not the ledger's, and the candles of both
-- widths made from the rows that differ from the stored ones. Hours and candles only where all of them is in the span.
WITH
-- include: parts/not_here
,
-- include: parts/whole_buckets
, keyed AS (
    -- One number that sorts like (ts, seq), so that first() and last() can use it.
    SELECT *, extract(epoch FROM ts) * 1000000000000 + seq AS key
    FROM quotes WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
), every_minute AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 minute', ts) AS bucket, first(bid, key) AS open, max(bid) AS high, min(bid) AS low,
           last(bid, key) AS close, first(ask, key) AS ask_open, max(ask) AS ask_high, min(ask) AS ask_low,
           last(ask, key) AS ask_close, sum(bid_size) AS bid_size, sum(ask_size) AS ask_size,
           sum(ask - bid) AS spread_sum, count(*) AS ticks,
           min(ts) AS first_ts, first(seq, key) AS first_seq, max(ts) AS last_ts, last(seq, key) AS last_seq,
           count(*) > count(DISTINCT key) AS twice
    FROM keyed GROUP BY 1
), made AS (
    SELECT width, time_bucket(width, m.bucket) AS bucket, first(open, m.bucket) AS open, max(high) AS high, min(low) AS low,
           last(close, m.bucket) AS close, first(ask_open, m.bucket) AS ask_open, max(ask_high) AS ask_high,
           min(ask_low) AS ask_low, last(ask_close, m.bucket) AS ask_close, sum(bid_size) AS bid_size,
           sum(ask_size) AS ask_size, sum(spread_sum) AS spread_sum, sum(ticks)::bigint AS ticks,
           min(first_ts) AS first_ts, first(first_seq, m.bucket) AS first_seq, max(last_ts) AS last_ts,
           last(last_seq, m.bucket) AS last_seq
    FROM every_minute m JOIN widths ON m.bucket >= lo AND m.bucket < hi
    WHERE NOT EXISTS (SELECT FROM not_here f WHERE m.bucket >= f.from_ts AND m.bucket < f.to_ts)
    GROUP BY 1, 2
), kept AS (
    SELECT INTERVAL '1 minute' AS width, * FROM quote_candle_1m
    WHERE instrument_id = %(instrument)s AND bucket >= %(from)s AND bucket < %(to)s
    UNION ALL
    SELECT INTERVAL '1 hour', * FROM quote_candle_1h
    WHERE instrument_id = %(instrument)s AND bucket >= %(from)s AND bucket < %(to)s
), stored AS (
    SELECT width, bucket, open, high, low, close, ask_open, ask_high, ask_low, ask_close, bid_size, ask_size, spread_sum,
           ticks, first_ts, first_seq, last_ts, last_seq
    FROM kept JOIN widths USING (width)
    WHERE bucket >= lo AND bucket < hi AND NOT EXISTS (SELECT FROM not_here f WHERE bucket >= f.from_ts AND bucket < f.to_ts)
), hours AS (  -- tickers have none
    SELECT h.hour, h.ticks FROM quote_hours h
    JOIN widths ON width = INTERVAL '1 hour' AND h.hour >= lo AND h.hour < hi
    WHERE instrument_id = %(instrument)s
      AND NOT EXISTS (SELECT FROM not_here f WHERE h.hour >= f.from_ts AND h.hour < f.to_ts)
), told AS (
    (SELECT 1 AS place, format('quote %%s of %%s is stored %%s times', k.seq, k.ts, count(*)) AS text
     FROM keyed k JOIN every_minute m ON m.twice AND m.bucket = time_bucket(INTERVAL '1 minute', k.ts)
     GROUP BY k.ts, k.seq HAVING count(*) > 1 LIMIT 20)
    UNION ALL
    (SELECT 2, format('hour %%s: the ledger counts %%s quotes, %%s are stored', hour, coalesce(h.ticks, 0), coalesce(m.ticks, 0))
     FROM hours h FULL JOIN (SELECT bucket AS hour, ticks FROM made WHERE width = INTERVAL '1 hour') m USING (hour)
     WHERE coalesce(h.ticks, 0) <> coalesce(m.ticks, 0)
       AND (EXISTS (SELECT FROM quote_hours x WHERE x.instrument_id = %(instrument)s)
            OR (SELECT proof = 'hours' FROM instruments WHERE instrument_id = %(instrument)s))
     LIMIT 20)
    UNION ALL
    (SELECT 3, format('the %%s candle of %%s is %%s, the quotes say %%s', width, bucket, to_jsonb(s) - 'bucket', to_jsonb(m) - 'bucket')
     FROM made m FULL JOIN stored s USING (width, bucket)
     WHERE m IS DISTINCT FROM s
     LIMIT 20)
)
SELECT NULL AS ids, (SELECT coalesce(array_agg(text ORDER BY place), '{}') FROM told) AS wrong, totals.*
FROM (SELECT coalesce(sum(ticks), 0)::bigint AS rows, min(first_ts) AS first_at, max(last_ts) AS last_at FROM every_minute)
     totals

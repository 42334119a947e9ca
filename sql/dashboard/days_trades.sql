-- Trades of each day, and how many of them came by a repair.
WITH days AS (
    SELECT time_bucket('1 day', bucket) AS day, sum(ticks) AS rows FROM trade_candle_1h
    WHERE instrument_id = %(id)s AND bucket >= %(from)s AND bucket < %(to)s GROUP BY 1
)
SELECT d.day::date, d.rows,
       (SELECT count(*) FROM trades t
        WHERE t.instrument_id = %(id)s AND t.ts >= d.day AND t.ts < d.day + INTERVAL '1 day' AND t.origin = 'repair')
FROM days d ORDER BY 1

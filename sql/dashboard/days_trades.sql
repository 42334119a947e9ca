-- Trades of each day, and how many of them were repaired. Repaired ones are counted by reading all trades (a million in
-- 0.6 s while 16 processes compete for two cores), so for older days the number is unknown (NULL).
WITH days AS (
    SELECT time_bucket('1 day', bucket) AS day, sum(ticks) AS rows FROM trade_candle_1h
    WHERE instrument_id = %(id)s AND bucket >= %(from)s AND bucket < %(to)s GROUP BY 1
), summed AS (
    SELECT *, sum(rows) OVER (ORDER BY day DESC) <= 1000000 AS counted FROM days
)
SELECT (d.day AT TIME ZONE 'UTC')::date AS day, d.rows::bigint,
       CASE WHEN d.counted THEN
           (SELECT count(*) FROM trades t
            WHERE t.instrument_id = %(id)s AND t.ts >= d.day AND t.ts < d.day + INTERVAL '1 day' AND t.origin = 'repair') END AS repaired
FROM summed d ORDER BY 1

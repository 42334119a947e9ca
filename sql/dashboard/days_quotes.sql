-- Quotes of each day, and how many of its hours were corrected after they had been stored.
WITH days AS (
    SELECT time_bucket('1 day', bucket) AS day, sum(ticks) AS rows FROM quote_candle_1h
    WHERE instrument_id = %(id)s AND bucket >= %(from)s AND bucket < %(to)s GROUP BY 1
)
SELECT (coalesce(d.day, h.day) AT TIME ZONE 'UTC')::date AS day, coalesce(d.rows, 0)::bigint AS rows, h.revised AS repaired
FROM days d FULL JOIN (
    SELECT time_bucket('1 day', hour) AS day, count(*) FILTER (WHERE revision > 0) AS revised FROM quote_hours
    WHERE instrument_id = %(id)s AND hour >= %(from)s AND hour < %(to)s AND state <> 'closed' GROUP BY 1
) h USING (day) ORDER BY 1

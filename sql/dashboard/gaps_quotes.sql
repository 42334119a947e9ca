-- Runs of hours inside the stored span that nobody has accounted for, or that the vendor does not have.
WITH span AS (
    SELECT greatest(min(hour), date_trunc('hour', %(from)s::timestamptz)) AS first,
           least(max(hour), %(to)s::timestamptz, now() - %(late)s) AS last
    FROM quote_hours WHERE instrument_id = %(id)s
), hours AS (
    SELECT h.hour,
           CASE WHEN q.hour IS NULL THEN 'missing' WHEN q.state = 'seen_empty' THEN 'missing'
                WHEN q.state = 'partial' THEN 'partial' WHEN q.state = 'confirmed_empty' THEN 'explained' END AS state,
           CASE WHEN q.hour IS NULL THEN 'never fetched' WHEN q.state = 'seen_empty' THEN 'empty once, asked again later'
                WHEN q.state = 'partial' THEN 'the hour so far' WHEN q.state = 'confirmed_empty' THEN 'the vendor has none'
           END AS reason
    FROM span CROSS JOIN generate_series(span.first, span.last, INTERVAL '1 hour') AS h (hour)
    LEFT JOIN quote_hours q ON q.instrument_id = %(id)s AND q.hour = h.hour
), runs AS (
    SELECT *, hour - row_number() OVER (PARTITION BY state, reason ORDER BY hour) * INTERVAL '1 hour' AS run
    FROM hours WHERE state IS NOT NULL
)
SELECT min(hour), max(hour) + INTERVAL '1 hour', state, reason, count(*)
FROM runs GROUP BY state, reason, run ORDER BY 1 DESC LIMIT %(most)s

-- Runs of requested hours that are missing, or that the vendor does not have.
WITH hours AS (
    SELECT h.hour,
           CASE WHEN q.hour IS NULL OR q.state = 'seen_empty' THEN 'missing'
                WHEN q.state = 'partial' THEN CASE WHEN q.hour > now() - INTERVAL '3 hours' THEN 'partial' ELSE 'missing' END
                WHEN q.state = 'confirmed_empty' THEN 'explained' END AS state,
           CASE WHEN q.hour IS NULL THEN 'never fetched' WHEN q.state = 'seen_empty' THEN 'empty once, asked again later'
                WHEN q.state = 'partial' THEN 'the hour so far' WHEN q.state = 'confirmed_empty' THEN 'confirmed_empty'
           END AS reason
    FROM quote_asked a
    CROSS JOIN LATERAL unnest(a.hours * tstzmultirange(tstzrange(%(from)s::timestamptz, %(to)s::timestamptz))) AS r
    CROSS JOIN LATERAL generate_series(date_trunc('hour', lower(r), 'UTC'), upper(r) - INTERVAL '1 microsecond', INTERVAL '1 hour')
        AS h (hour)
    LEFT JOIN quote_hours q ON q.instrument_id = a.instrument_id AND q.hour = h.hour
    WHERE a.instrument_id = %(id)s
), runs AS (
    SELECT *, hour - row_number() OVER (PARTITION BY state, reason ORDER BY hour) * INTERVAL '1 hour' AS run
    FROM hours WHERE state IS NOT NULL
), spans AS (
    SELECT min(hour) AS first, max(hour) + INTERVAL '1 hour' AS ends, state, reason, count(*) AS hours
    FROM runs GROUP BY state, reason, run ORDER BY state = 'missing' DESC, 1 DESC LIMIT %(most)s
)
SELECT extract(epoch FROM first)::float8 AS from_s, extract(epoch FROM ends)::float8 AS to_s, state, reason,
       hours AS count
FROM spans ORDER BY first DESC

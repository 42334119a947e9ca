-- The hours of a day of quotes by their state in the ledger, with the number of quotes and of later corrections by the
-- vendor. State NULL: the hour was not asked for, or is not loaded yet.
SELECT q.state::text AS state, count(*) AS hours, coalesce(sum(q.ticks), 0)::bigint AS rows,
       count(*) FILTER (WHERE q.revision > 0) AS corrected
FROM generate_series(%(from)s::timestamptz, %(from)s + INTERVAL '23 hours', INTERVAL '1 hour') AS hour
LEFT JOIN quote_hours q ON q.instrument_id = %(instrument)s AND q.hour = hour.hour
GROUP BY 1 ORDER BY 1

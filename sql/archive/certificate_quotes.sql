-- The hours of a day of quotes by what the ledger says of them, with how many quotes they have and how many the vendor
-- corrected later. NULL: nobody asked for the hour, or it is not there yet.
SELECT q.state::text AS state, count(*) AS hours, coalesce(sum(q.ticks), 0)::bigint AS rows,
       count(*) FILTER (WHERE q.revision > 0) AS corrected
FROM generate_series(%(from)s::timestamptz, %(from)s + INTERVAL '23 hours', INTERVAL '1 hour') AS hour
LEFT JOIN quote_hours q ON q.instrument_id = %(instrument)s AND q.hour = hour.hour
GROUP BY 1 ORDER BY 1

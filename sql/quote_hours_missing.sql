-- Runs of hours before a moment that were requested and are not accounted for, newest first.
SELECT (extract(epoch FROM lower(run)) * 1000000)::bigint, (extract(epoch FROM upper(run)) * 1000000)::bigint
FROM quote_asked a
JOIN instruments i USING (instrument_id)
CROSS JOIN LATERAL unnest(
    a.hours * tstzmultirange(tstzrange(NULL, %(before)s))
    - coalesce((SELECT range_agg(tstzrange(q.hour, q.hour + INTERVAL '1 hour')) FROM quote_hours q
                WHERE q.instrument_id = a.instrument_id AND q.state IN ('present', 'confirmed_empty', 'closed')), '{}')
) AS run
WHERE i.venue = %(venue)s AND i.product_id = %(product)s
ORDER BY 1 DESC

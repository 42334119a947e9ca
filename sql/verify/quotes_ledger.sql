-- Hours of the span that were asked for and that nobody accounts for; whole hours only.
WITH
-- include: parts/whole_buckets
SELECT format('%%s hours between %%s and %%s were asked for and are neither stored nor explained', missing, lo, hi)
FROM (
    SELECT count(*) AS missing, min(hour) AS lo, max(hour) AS hi
    FROM quote_asked a JOIN widths ON width = INTERVAL '1 hour'
    CROSS JOIN LATERAL unnest(a.hours * tstzmultirange(tstzrange(widths.lo, greatest(widths.lo, widths.hi)))) AS span
    CROSS JOIN LATERAL generate_series(lower(span), upper(span) - INTERVAL '1 hour', INTERVAL '1 hour') AS hour
    WHERE a.instrument_id = %(instrument)s AND NOT EXISTS (
        SELECT FROM quote_hours q WHERE q.instrument_id = a.instrument_id AND q.hour = hour.hour AND q.state <> 'seen_empty'
          AND (q.state <> 'partial' OR (a.follows AND q.hour > now() - INTERVAL '3 hours')))
) m WHERE missing > 0

-- Past days with quotes or tickers that are in no file yet or have changed since, and whether every requested hour is
-- accounted for. Tickers are samples, so none is ever missing.
WITH days AS (
    SELECT c.instrument_id, time_bucket('1 day', c.bucket) AS day, sum(c.ticks)::bigint AS rows
    FROM quote_candle_1h c
    WHERE c.bucket < time_bucket('1 day', %(before)s::timestamptz)
    GROUP BY 1, 2
)
SELECT d.instrument_id, i.venue, i.product_id, d.day, d.rows, s.from_ts AS span_from, s.to_ts AS span_to,
       s.archived_changes IS NOT NULL AS archived,
       NOT EXISTS (
           SELECT FROM quote_asked a
           CROSS JOIN LATERAL unnest(a.hours * tstzmultirange(tstzrange(d.day, d.day + INTERVAL '1 day'))) AS span
           CROSS JOIN LATERAL generate_series(lower(span), upper(span) - INTERVAL '1 hour', INTERVAL '1 hour') AS hour
           WHERE a.instrument_id = d.instrument_id AND NOT EXISTS (
               SELECT FROM quote_hours q WHERE q.instrument_id = a.instrument_id AND q.hour = hour.hour
                 AND q.state IN ('present', 'confirmed_empty', 'closed'))) AS complete
FROM days d
JOIN instruments i USING (instrument_id)
LEFT JOIN archive_spans s ON s.instrument_id = d.instrument_id AND s.kind = 'quotes' AND s.from_ts <= d.day AND s.to_ts > d.day
WHERE s.archived_changes IS DISTINCT FROM s.changes OR s.changes IS NULL
ORDER BY d.day, d.instrument_id

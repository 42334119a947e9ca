-- Spans that the archive works on or holds, of which hours were stored or replaced.
UPDATE archive_spans s SET changes = changes + 1
FROM (
    SELECT DISTINCT instrument_id, time_bucket('1 day', hour) AS day
    FROM unnest(%s::integer[], %s::timestamptz[]) AS h (instrument_id, hour)
) d
CROSS JOIN LATERAL (
    SELECT a.from_ts FROM archive_spans a
    WHERE a.instrument_id = d.instrument_id AND a.kind = 'quotes' AND a.to_ts > d.day ORDER BY a.to_ts LIMIT 1
) first
WHERE s.instrument_id = d.instrument_id AND s.kind = 'quotes' AND s.from_ts = first.from_ts AND s.from_ts <= d.day

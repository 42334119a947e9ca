-- Spans that the archive works on or holds, of which hours were stored or replaced. By ctid, so that the index is used
-- without statistics.
UPDATE archive_spans SET changes = changes + 1
WHERE ctid = ANY (ARRAY(
    SELECT s.ctid
    FROM (
        SELECT DISTINCT instrument_id, time_bucket('1 day', hour) AS day
        FROM unnest(%s::integer[], %s::timestamptz[]) AS h (instrument_id, hour)
    ) d
    CROSS JOIN LATERAL (
        SELECT a.ctid, a.from_ts FROM archive_spans a
        WHERE a.instrument_id = d.instrument_id AND a.kind = 'quotes' AND a.to_ts > d.day ORDER BY a.to_ts LIMIT 1
    ) s
    WHERE s.from_ts <= d.day))

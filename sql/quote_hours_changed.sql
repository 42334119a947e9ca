-- Mark the spans of the archive in which hours were stored or replaced. If the rows are in a file only, the file is no
-- longer read for these hours. By ctid, so that the index is used without statistics.
UPDATE archive_spans span SET
    changes = changes + 1,
    replaced = CASE WHEN in_tables THEN replaced ELSE replaced + (
        SELECT range_agg(tstzrange(h.hour, h.hour + INTERVAL '1 hour'))
        FROM unnest(%(instruments)s::integer[], %(hours)s::timestamptz[]) AS h (instrument_id, hour)
        WHERE h.instrument_id = span.instrument_id AND h.hour >= span.from_ts AND h.hour < span.to_ts) END
WHERE ctid = ANY (ARRAY(
    SELECT s.ctid
    FROM (
        SELECT DISTINCT instrument_id, time_bucket('1 day', hour) AS day
        FROM unnest(%(instruments)s::integer[], %(hours)s::timestamptz[]) AS h (instrument_id, hour)
    ) d
    CROSS JOIN LATERAL (
        SELECT a.ctid, a.from_ts FROM archive_spans a
        WHERE a.instrument_id = d.instrument_id AND a.kind = 'quotes' AND a.to_ts > d.day ORDER BY a.to_ts LIMIT 1
    ) s
    WHERE s.from_ts <= d.day))

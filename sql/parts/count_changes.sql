-- Count a change of the archive's spans that contain the days in `days`. By ctid, so that the index is used even
-- without statistics.
changed AS (
    UPDATE archive_spans SET changes = changes + 1
    WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM days d
        CROSS JOIN LATERAL (
            SELECT a.ctid, a.from_ts FROM archive_spans a
            WHERE a.instrument_id = d.instrument_id AND a.kind = d.kind AND a.to_ts > d.day ORDER BY a.to_ts LIMIT 1
        ) s
        WHERE s.from_ts <= d.day))
)

-- Days whose rows are in an up-to-date file, or in a file only.
SELECT (day AT TIME ZONE 'UTC')::date AS day, in_tables
FROM archived
CROSS JOIN LATERAL generate_series(greatest(from_ts, %(from)s), least(to_ts, %(to)s) - INTERVAL '1 day', INTERVAL '1 day') AS day
WHERE instrument_id = %(id)s AND kind = %(kind)s AND from_ts < %(to)s AND to_ts > %(from)s AND (up_to_date OR NOT in_tables)

-- Files that alone hold rows of the span.
SELECT path, rows FROM archived
WHERE instrument_id = %(instrument)s AND kind = %(kind)s AND NOT in_tables AND from_ts < %(to)s AND to_ts > %(from)s
ORDER BY from_ts

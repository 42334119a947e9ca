-- Times of a span in which trades are neither proven nor explained.
SELECT format('trades between %%s and %%s are neither proven nor explained', from_ts, to_ts)
FROM trade_time_gaps
WHERE instrument_id = %(instrument)s AND from_ts < %(to)s AND to_ts > %(from)s
ORDER BY from_ts
LIMIT 20

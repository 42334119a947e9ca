-- Time in which nobody listened: tickers are samples, this is not repaired.
SELECT from_ts, to_ts, 'explained', reason, NULL::integer FROM holes
WHERE instrument_id = %(id)s AND from_ts < %(to)s AND to_ts >= %(from)s AND from_ts IS NOT NULL
ORDER BY 1 DESC LIMIT %(most)s

-- Time in which nobody listened: tickers are samples, this is not repaired.
SELECT extract(epoch FROM from_ts)::float8 AS from_s, extract(epoch FROM to_ts)::float8 AS to_s, 'explained' AS state,
       reason, NULL::integer AS count
FROM holes
WHERE instrument_id = %(id)s AND from_ts < %(to)s AND to_ts >= %(from)s AND from_ts IS NOT NULL
ORDER BY 1 DESC LIMIT %(most)s

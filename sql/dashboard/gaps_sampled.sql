-- Time in which the stream was down: missed samples cannot be fetched.
SELECT extract(epoch FROM from_ts)::float8 AS from_s, extract(epoch FROM to_ts)::float8 AS to_s, 'explained' AS state,
       'not_listening' AS reason, NULL::integer AS count
FROM missed_time
WHERE instrument_id = %(id)s AND from_ts < %(to)s AND to_ts >= %(from)s
ORDER BY 1 DESC LIMIT %(most)s

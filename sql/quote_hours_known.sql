SELECT instrument_id, hour, state::text, ticks, feed, fetched_at, checksum, revision,
       extract(epoch FROM now() - stored_at)::float8 AS age_s,
       CASE WHEN sure THEN 'Infinity' ELSE extract(epoch FROM last_at - first_at) END::float8 AS looked_s
FROM unnest(%s::int[], %s::timestamptz[]) AS wanted (instrument_id, hour)
LEFT JOIN quote_hours USING (instrument_id, hour)
LEFT JOIN quote_looks USING (instrument_id, hour)
WHERE state IS NOT NULL OR first_at IS NOT NULL

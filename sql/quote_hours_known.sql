SELECT instrument_id, hour, state::text, ticks, feed, fetched_at, checksum, revision,
       extract(epoch FROM now() - stored_at)::float8 AS age_s
FROM quote_hours JOIN unnest(%s::int[], %s::timestamptz[]) AS wanted (instrument_id, hour) USING (instrument_id, hour)

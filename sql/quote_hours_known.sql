-- What is known of some hours. `strange`: the tables hold another number of quotes of the hour than the ledger knows.
-- Only where hours are the proof: elsewhere there may be tickers. A look at an hour that is too young proves nothing.
SELECT instrument_id, hour, state::text, q.ticks, feed, fetched_at, checksum, revision,
       extract(epoch FROM now() - stored_at)::float8 AS age_s,
       CASE WHEN sure THEN 'Infinity'
            ELSE extract(epoch FROM last_at - greatest(first_at, hour + late.enough)) END::float8 AS looked_s,
       coalesce(i.proof = 'hours' AND coalesce(c.ticks, 0) <> coalesce(q.ticks, 0), false) AS strange
FROM unnest(%s::int[], %s::timestamptz[]) AS wanted (instrument_id, hour)
JOIN instruments i USING (instrument_id)
CROSS JOIN (SELECT %s * INTERVAL '1 second' AS enough) late
LEFT JOIN quote_hours q USING (instrument_id, hour)
LEFT JOIN quote_looks USING (instrument_id, hour)
LEFT JOIN LATERAL (
    SELECT ticks FROM quote_candle_1h k WHERE k.instrument_id = wanted.instrument_id AND k.bucket = wanted.hour LIMIT 1
) c ON true
WHERE state IS NOT NULL OR first_at IS NOT NULL OR c.ticks IS NOT NULL

-- Store the ledger's entry of an hour of quotes; which version is kept was decided by the program.
INSERT INTO quote_hours (instrument_id, hour, state, ticks, feed, fetched_at, checksum, revision)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (instrument_id, hour) DO UPDATE SET
    state = excluded.state, ticks = excluded.ticks, feed = excluded.feed, fetched_at = excluded.fetched_at,
    checksum = excluded.checksum, revision = excluded.revision, stored_at = now()

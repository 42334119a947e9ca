-- Store a head as its witness reports it, and the venue's clock offset if it was measured. `at_s`: when the ages were
-- measured, by the database's clock. The live span is extended down to the first id that the stream showed: the writer
-- began it at the first id that it stored, and what the stream showed before was lost on the way.
WITH live AS (
    UPDATE trade_coverage SET live_from = %(from_id)s
    WHERE instrument_id = %(instrument)s AND (live_from IS NULL OR live_from > %(from_id)s)
), clock AS (
    INSERT INTO clock_offsets AS c (instrument_id, day, least_ms, greatest_ms, total_ms, looks)
    SELECT %(instrument)s, (now() AT TIME ZONE 'UTC')::date, ms, ms, ms, 1
    FROM (SELECT %(clock_offset_ms)s::integer AS ms) measured WHERE ms IS NOT NULL
    ON CONFLICT (instrument_id, day) DO UPDATE SET
        least_ms = least(c.least_ms, excluded.least_ms), greatest_ms = greatest(c.greatest_ms, excluded.greatest_ms),
        total_ms = c.total_ms + excluded.total_ms, looks = c.looks + 1
)
INSERT INTO trade_heads AS h (instrument_id, newest_id, seen_at, settled_id, checked_at, witness)
VALUES (%(instrument)s, %(newest_id)s, to_timestamp(%(at_s)s - %(seen_age_s)s), %(settled_id)s,
        to_timestamp(%(at_s)s - %(checked_age_s)s), %(witness)s)
ON CONFLICT (instrument_id) DO UPDATE SET
    newest_id = excluded.newest_id, seen_at = excluded.seen_at, settled_id = excluded.settled_id,
    checked_at = excluded.checked_at, witness = excluded.witness

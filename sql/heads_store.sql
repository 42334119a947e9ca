-- A head as its witness tells it, on the database's clock. The first head of an instrument begins its live span: at what the
-- stream showed first, after what is stored already.
WITH live AS (
    UPDATE trade_coverage SET live_from = %(from_id)s
    WHERE instrument_id = %(instrument)s AND live_from IS NULL
)
INSERT INTO trade_heads AS h (instrument_id, newest_id, seen_at, settled_id, checked_at, witness)
VALUES (%(instrument)s, %(newest_id)s, now() - %(seen_age_s)s * INTERVAL '1 second', %(settled_id)s,
        now() - %(checked_age_s)s * INTERVAL '1 second', %(witness)s)
ON CONFLICT (instrument_id) DO UPDATE SET
    newest_id = excluded.newest_id, seen_at = excluded.seen_at, settled_id = excluded.settled_id,
    checked_at = excluded.checked_at, witness = excluded.witness

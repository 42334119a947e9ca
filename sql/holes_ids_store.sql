-- A claim of a message: it explains nothing before who looked at the venue has signed it (pipeline/ledger.py).
INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at)
VALUES (%s, %s, %s, %s, TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond')
ON CONFLICT (instrument_id, first_id, last_id, reason) WHERE first_id IS NOT NULL DO NOTHING

INSERT INTO holes (instrument_id, from_ts, to_ts, reason, confirmed_at)
VALUES (%s, TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond', TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond', %s,
        TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond')
ON CONFLICT (instrument_id, from_ts, to_ts) WHERE from_ts IS NOT NULL DO NOTHING

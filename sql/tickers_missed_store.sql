-- Record the time before a ticker in which others were missed. `since` 0: since the last stored ticker, if there is
-- one.
INSERT INTO holes (instrument_id, from_ts, to_ts, reason, confirmed_at)
SELECT %(instrument)s, missed.since, missed.until, 'not_listening', TIMESTAMPTZ 'epoch' + %(now)s * INTERVAL '1 microsecond'
FROM (
    SELECT CASE WHEN %(since)s > 0 THEN TIMESTAMPTZ 'epoch' + %(since)s * INTERVAL '1 microsecond'
                ELSE (SELECT max(ts) FROM quotes
                      WHERE instrument_id = %(instrument)s AND ts < TIMESTAMPTZ 'epoch' + %(until)s * INTERVAL '1 microsecond')
           END AS since,
           TIMESTAMPTZ 'epoch' + %(until)s * INTERVAL '1 microsecond' AS until
) missed
WHERE missed.since < missed.until
ON CONFLICT (instrument_id, from_ts, to_ts) WHERE from_ts IS NOT NULL DO NOTHING

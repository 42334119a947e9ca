-- Time of an instrument's newest tick that is not in the future; the minute of its candle if ticks are archived.
SELECT coalesce(
    (SELECT ts FROM :kind WHERE instrument_id = %(id)s AND ts <= now() ORDER BY ts DESC LIMIT 1),
    (SELECT bucket FROM :candle WHERE instrument_id = %(id)s AND bucket <= now() ORDER BY bucket DESC LIMIT 1)
) AS newest

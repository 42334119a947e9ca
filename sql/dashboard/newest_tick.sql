-- When the newest tick of an instrument is from, as far as that is past; the minute of its candle where ticks are archived.
SELECT coalesce(
    (SELECT ts FROM :kind WHERE instrument_id = %(id)s AND ts <= now() ORDER BY ts DESC LIMIT 1),
    (SELECT bucket FROM :candle WHERE instrument_id = %(id)s AND bucket <= now() ORDER BY bucket DESC LIMIT 1)
) AS newest

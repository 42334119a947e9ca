-- Whether an instrument is live, up to when the venue has confirmed the counts, and whether that is too long ago to
-- know them now.
SELECT a.live, a.checked_at AS proven_until,
       a.live AND NOT confirmed(a.checked_at) AS unknown
FROM trade_asked a JOIN instruments i USING (instrument_id)
WHERE a.instrument_id = %(id)s AND %(kind)s = 'trades' AND i.proof = 'contiguous ids'
UNION ALL
SELECT a.live, a.checked_at, a.live AND NOT confirmed(a.checked_at)
FROM trade_time_asked a WHERE a.instrument_id = %(id)s AND %(kind)s = 'trades'
UNION ALL
SELECT a.follows, NULL, false FROM quote_asked a WHERE a.instrument_id = %(id)s AND %(kind)s = 'quotes'

-- Asked ids that nobody accounts for and that may belong to the span: the time between the stored neighbours of a gap
-- touches it. Where a neighbour is in a file of the archive, the ledger says how close its time is at least; a gap without a
-- neighbour lasts from the beginning, or until now. So a gap is rather told too often than hidden.
SELECT format('ids %%s to %%s are neither stored nor explained', g.first_id, g.last_id)
FROM trade_gaps g
CROSS JOIN LATERAL (
    SELECT greatest(
        (SELECT t.ts FROM trades t WHERE t.instrument_id = g.instrument_id AND t.trade_id < g.first_id
         ORDER BY t.trade_id DESC LIMIT 1),
        (SELECT max(CASE WHEN f.last_id < g.first_id THEN f.last_ts ELSE f.first_ts END) FROM archived f
         WHERE f.instrument_id = g.instrument_id AND f.kind = 'trades' AND NOT f.in_tables AND f.first_id < g.first_id)
    ) AS before_ts, least(
        (SELECT t.ts FROM trades t WHERE t.instrument_id = g.instrument_id AND t.trade_id > g.last_id
         ORDER BY t.trade_id LIMIT 1),
        (SELECT min(CASE WHEN f.first_id > g.last_id THEN f.first_ts ELSE f.last_ts END) FROM archived f
         WHERE f.instrument_id = g.instrument_id AND f.kind = 'trades' AND NOT f.in_tables AND f.last_id > g.last_id)
    ) AS after_ts
) n
-- Venues number trades almost in the order of their times: the neighbours may be the wrong way round.
WHERE g.instrument_id = %(instrument)s AND least(coalesce(n.before_ts, '-infinity'), n.after_ts) < %(to)s
  AND greatest(n.before_ts, coalesce(n.after_ts, now())) >= %(from)s
ORDER BY g.first_id
LIMIT 20

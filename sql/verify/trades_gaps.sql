SELECT format('ids %%s to %%s are neither stored nor explained', first_id, last_id)
FROM trade_gaps g
WHERE instrument_id = %(instrument)s
  -- A gap belongs to the span by the trade before it.
  AND coalesce((SELECT ts FROM trades t WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.first_id - 1 LIMIT 1),
               %(from)s) BETWEEN %(from)s AND %(to)s
LIMIT 20

-- Lock the ledger of a batch's instruments; which ids from `low` to `high` (excluded) it contains, as they are once the lock
-- is had.
SELECT c.instrument_id, i.venue, i.product_id, c.ids * int8multirange(int8range(b.low, b.high)) AS known
FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS b (instrument_id, low, high)
JOIN trade_coverage c USING (instrument_id)
JOIN instruments i USING (instrument_id)
ORDER BY c.instrument_id FOR UPDATE OF c

SELECT c.instrument_id, i.venue, i.product_id
FROM trade_coverage c JOIN instruments i USING (instrument_id)
WHERE c.instrument_id = ANY(%s) ORDER BY c.instrument_id FOR UPDATE OF c

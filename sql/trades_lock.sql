-- Lock the ledger of a batch's instruments and return which of the batch's ids (ranges from `low` to `high`, excluded)
-- it contains once it is locked.
SELECT c.instrument_id, i.venue, i.product_id, coalesce(c.ids * b.ids, '{}') AS known
FROM trade_coverage c
JOIN instruments i USING (instrument_id)
LEFT JOIN (
    SELECT instrument_id, range_agg(int8range(low, high)) AS ids
    FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS run (instrument_id, low, high)
    GROUP BY 1
) b USING (instrument_id)
WHERE c.instrument_id = ANY(%s)
ORDER BY c.instrument_id FOR UPDATE OF c

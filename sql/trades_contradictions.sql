-- Staged trades whose id is stored with another price, quantity or time. Times may differ by 2 us, as a venue's stream and
-- REST do; for trades proven by time windows by a second, because REST may give whole seconds only (Bitstamp). An id that
-- retention dropped is no contradiction.
SELECT s.row, t.ts, t.price, t.quantity
FROM staged_trades s
JOIN instruments i USING (instrument_id)
LEFT JOIN LATERAL (
    SELECT true AS same FROM trades t
    WHERE t.instrument_id = s.instrument_id AND t.trade_id = s.trade_id AND t.price = s.price AND t.quantity = s.quantity
      AND (t.ts BETWEEN s.ts - INTERVAL '2 microseconds' AND s.ts + INTERVAL '2 microseconds'
           OR (i.proof = 'time windows' AND date_trunc('second', t.ts) = date_trunc('second', s.ts)
               AND date_trunc('second', s.ts) IN (s.ts, t.ts)))
    LIMIT 1
) known ON true
JOIN trades t ON t.instrument_id = s.instrument_id AND t.trade_id = s.trade_id
WHERE known.same IS NULL

-- Staged trades whose id is stored with another price, quantity or time (more than 2 us apart: a venue's two ways of
-- telling one trade's time differ by that; or by less than a second where one of them gives whole seconds: Bitstamp). An id
-- that retention dropped is no contradiction.
SELECT s.row, t.ts, t.price, t.quantity
FROM staged_trades s
LEFT JOIN LATERAL (
    SELECT true AS same FROM trades t
    WHERE t.instrument_id = s.instrument_id AND t.trade_id = s.trade_id AND t.price = s.price AND t.quantity = s.quantity
      AND (t.ts BETWEEN s.ts - INTERVAL '2 microseconds' AND s.ts + INTERVAL '2 microseconds'
           OR (t.ts > s.ts - INTERVAL '1 second' AND t.ts < s.ts + INTERVAL '1 second'
               AND date_trunc('second', t.ts) = date_trunc('second', s.ts)
               AND (t.ts = date_trunc('second', t.ts) OR s.ts = date_trunc('second', s.ts))))
    LIMIT 1
) known ON true
JOIN trades t ON t.instrument_id = s.instrument_id AND t.trade_id = s.trade_id
WHERE known.same IS NULL

-- The exchanges of each consensus `q`, and the trade ids of each that are stored, or unknown to the venue by a signed
-- finding; NULL if none are stored.
SELECT q.consensus_id, q.granularity_s, i.instrument_id, 1::bigint << (array_position(q.exchanges, i.venue) - 1) AS bit,
       c.ids + explained.ids AS ids
FROM consensus_quorum q
JOIN instruments i ON i.product_id = q.product_id AND i.venue = ANY (q.exchanges)
LEFT JOIN trade_coverage c ON c.instrument_id = i.instrument_id AND NOT isempty(c.ids)
                          AND q.granularity_s %% 60 = 0 AND q.granularity_s <= 86400
LEFT JOIN LATERAL (
    SELECT coalesce(range_agg(int8range(h.first_id, h.last_id, '[]')), '{}') AS ids
    FROM holes h WHERE h.instrument_id = i.instrument_id AND h.reason = 'venue_has_none' AND h.first_id IS NOT NULL
      AND h.signed_at IS NOT NULL
) explained ON c.ids IS NOT NULL

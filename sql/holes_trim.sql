-- An explanation never covers a stored trade: remove the ids of staged trades from the holes.
WITH batch AS MATERIALIZED (
    SELECT instrument_id, min(trade_id) AS low, max(trade_id) AS high FROM staged_trades GROUP BY 1
), wrong AS (
    DELETE FROM holes h USING batch b, trade_coverage c
    WHERE h.instrument_id = b.instrument_id AND h.first_id <= b.high AND h.last_id >= b.low
      AND c.instrument_id = h.instrument_id AND int8range(h.first_id, h.last_id, '[]') && c.ids
    RETURNING h.*, c.ids
)
INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at, signed_at)
SELECT instrument_id, lower(piece), upper(piece) - 1, reason, confirmed_at, signed_at
FROM wrong CROSS JOIN LATERAL unnest(int8multirange(int8range(first_id, last_id, '[]')) - ids) AS piece
ON CONFLICT (instrument_id, first_id, last_id, reason) WHERE first_id IS NOT NULL DO NOTHING

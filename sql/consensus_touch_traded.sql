-- Buckets that our own trades complete now, although the consensus was computed without them.
INSERT INTO touched_consensus (consensus_id, bucket)
SELECT DISTINCT q.consensus_id, time_bucket(q.granularity_s * INTERVAL '1 second', m.bucket)
FROM consensus_quorum q
JOIN instruments i ON i.product_id = q.product_id AND i.venue = ANY (q.exchanges)
JOIN trade_coverage t ON t.instrument_id = i.instrument_id AND NOT isempty(t.ids)
JOIN trade_candle_1m m ON m.instrument_id = i.instrument_id
WHERE q.product_id = %(product_id)s AND q.granularity_s %% 60 = 0 AND q.granularity_s <= 86400
  AND m.bucket >= now() - %(days)s * INTERVAL '1 day' AND int8range(greatest(m.first_id - 1, 1), m.last_id + 2) <@ t.ids
  AND NOT EXISTS (
      SELECT FROM consensus_candle c
      WHERE c.consensus_id = q.consensus_id
        AND c.bucket = time_bucket(q.granularity_s * INTERVAL '1 second', m.bucket)
        AND c.from_trades & (1::bigint << (array_position(q.exchanges, i.venue) - 1)) <> 0)

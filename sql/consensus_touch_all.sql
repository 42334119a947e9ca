-- Touch all buckets of one consensus, because its exchanges or its quorum changed.
INSERT INTO touched_consensus (consensus_id, bucket)
SELECT q.consensus_id, e.bucket
FROM consensus_quorum q
JOIN instruments i ON i.product_id = q.product_id AND i.venue = ANY (q.exchanges)
JOIN exchange_candles e ON e.instrument_id = i.instrument_id AND e.granularity_s = q.granularity_s AND e.final
WHERE q.consensus_id = %(consensus_id)s
UNION
SELECT consensus_id, bucket FROM consensus_candle WHERE consensus_id = %(consensus_id)s

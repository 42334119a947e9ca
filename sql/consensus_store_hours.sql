-- Recompute the hours around a slice of touched_consensus from the finer candles that meet the quorum.
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT t.consensus_id, time_bucket('1 hour', t.bucket) AS bucket
    FROM touched_consensus t JOIN consensus_quorum q USING (consensus_id)
    WHERE q.granularity_s < 3600 AND 3600 %% q.granularity_s = 0 AND t.n BETWEEN %(first)s AND %(last)s
), made AS MATERIALIZED (
    SELECT w.consensus_id, w.bucket, m.*
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT first(open, c.bucket) AS open, max(high) AS high, min(low) AS low, last(close, c.bucket) AS close,
               sum(volume) AS volume, max(dispersion) AS dispersion, bit_or(taken) AS taken, bit_or(left_out) AS left_out,
               bit_or(from_trades) AS from_trades, sum(revision) AS revision, count(*) AS candles
        FROM consensus_candle c JOIN consensus_quorum q USING (consensus_id)
        WHERE c.consensus_id = w.consensus_id AND c.takers >= q.required
          AND c.bucket >= w.bucket AND c.bucket < w.bucket + INTERVAL '1 hour'
    ) m
), stored AS (
    INSERT INTO consensus_candle_1h AS c
        (consensus_id, bucket, open, high, low, close, volume, dispersion, taken, left_out, from_trades, revision, candles)
    SELECT consensus_id, bucket, open, high, low, close, volume, dispersion, taken, left_out, from_trades, revision, candles
    FROM made WHERE candles > 0
    ORDER BY consensus_id, bucket
    ON CONFLICT (consensus_id, bucket) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
        dispersion = excluded.dispersion, taken = excluded.taken, left_out = excluded.left_out,
        from_trades = excluded.from_trades, revision = excluded.revision, candles = excluded.candles
)
DELETE FROM consensus_candle_1h c USING made m
WHERE m.candles = 0 AND c.consensus_id = m.consensus_id AND c.bucket = m.bucket

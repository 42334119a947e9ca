-- The buckets whose consensus was made from other trades of ours than are stored now: they arrived or were completed
-- later (possibly by a finding), or are no longer complete. Candles never lose trades, so for the same exchanges their
-- number shows it. A consensus that was made before they were counted is included, because nobody knows.
WITH seats AS MATERIALIZED (
    -- include: parts/consensus_seats
    WHERE q.product_id = %(product_id)s
), traded AS (
    SELECT s.consensus_id, time_bucket(s.granularity_s * INTERVAL '1 second', m.bucket) AS bucket, s.bit,
           sum(m.ticks) AS trades,
           int8range(greatest(min(m.first_id) - 1, 1), max(m.last_id) + 2) <@ s.ids AS complete
    FROM seats s
    JOIN trade_candle_1m m ON m.instrument_id = s.instrument_id
    WHERE s.ids IS NOT NULL
      AND m.bucket >= time_bucket(s.granularity_s * INTERVAL '1 second', now() - %(days)s * INTERVAL '1 day')
    GROUP BY s.consensus_id, 2, s.bit, s.ids
), now_traded AS (
    SELECT consensus_id, bucket, coalesce(bit_or(bit) FILTER (WHERE complete), 0) AS from_trades,
           coalesce(sum(trades) FILTER (WHERE complete), 0) AS trades
    FROM traded GROUP BY 1, 2
)
SELECT n.consensus_id, n.bucket
FROM now_traded n LEFT JOIN consensus_candle c USING (consensus_id, bucket)
WHERE n.from_trades <> coalesce(c.from_trades, 0) OR c.bucket IS NOT NULL AND n.trades IS DISTINCT FROM c.trades

-- Recompute the consensus of the buckets in a slice of touched_consensus from the stored candles.
--
-- An exchange takes part once: with our own trades if every id of the bucket and its two neighbours is stored, or
-- unknown to the venue by a signed finding; otherwise with its final candle. A high below a low is corrected by taking
-- the greatest and the least of the four prices. Of three or more exchanges, one is left out if its open, high, low or
-- close is further from the median than 5 deviations (1.4826 x the median absolute deviation, which is one standard
-- deviation of normal data) and also than 1 %: prices of healthy venues lie within 0.1 %, and their median deviation
-- may be almost zero. Weights are the volumes, or equal if all volumes are zero. Prices are rounded to the finest
-- decimals that any exchange uses in the bucket, at least to cents.
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT consensus_id, bucket FROM touched_consensus WHERE n BETWEEN %(first)s AND %(last)s
), seats AS MATERIALIZED (
    -- include: parts/consensus_seats
    WHERE q.consensus_id IN (SELECT consensus_id FROM wanted)
), traded AS MATERIALIZED (
    SELECT w.consensus_id, w.bucket, s.bit, m.open, m.high, m.low, m.close, m.volume, m.ticks
    FROM wanted w
    JOIN seats s ON s.consensus_id = w.consensus_id AND s.ids IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT first(m.open, m.first_id) AS open, max(m.high) AS high, min(m.low) AS low, last(m.close, m.last_id) AS close,
               sum(m.volume) AS volume, sum(m.ticks) AS ticks, min(m.first_id) AS first_id, max(m.last_id) AS last_id
        FROM trade_candle_1m m
        WHERE m.instrument_id = s.instrument_id AND m.bucket >= w.bucket
          AND m.bucket < w.bucket + s.granularity_s * INTERVAL '1 second'
    ) m
    WHERE int8range(greatest(m.first_id - 1, 1), m.last_id + 2) <@ s.ids
), present AS MATERIALIZED (
    SELECT consensus_id, bucket, bit, true AS from_trades, open, high, low, close, volume, ticks FROM traded
    UNION ALL
    SELECT w.consensus_id, w.bucket, s.bit, false, e.open, greatest(e.open, e.high, e.low, e.close),
           least(e.open, e.high, e.low, e.close), e.close, e.volume, 0
    FROM wanted w
    JOIN seats s ON s.consensus_id = w.consensus_id
    CROSS JOIN LATERAL (
        SELECT * FROM exchange_candles e
        WHERE e.instrument_id = s.instrument_id AND e.granularity_s = s.granularity_s AND e.bucket = w.bucket AND e.final
        LIMIT 1
    ) e
    WHERE NOT EXISTS (
        SELECT FROM traded t WHERE t.consensus_id = w.consensus_id AND t.bucket = w.bucket AND t.bit = s.bit)
), doubtful AS MATERIALIZED (
    -- If all prices lie within 1 %, none can be left out, so medians are computed for few buckets only.
    SELECT consensus_id, bucket FROM present GROUP BY 1, 2
    HAVING count(*) >= 3 AND (
        max(open) - min(open) > 0.01 * min(open) OR max(high) - min(high) > 0.01 * min(high)
        OR max(low) - min(low) > 0.01 * min(low) OR max(close) - min(close) > 0.01 * min(close))
), middles AS (
    SELECT consensus_id, bucket, consensus_median(open) AS open, consensus_median(high) AS high,
           consensus_median(low) AS low, consensus_median(close) AS close
    FROM present JOIN doubtful USING (consensus_id, bucket) GROUP BY 1, 2
), deviations AS (
    SELECT p.consensus_id, p.bucket, p.bit, d.open, d.high, d.low, d.close,
           abs(p.open - d.open) AS open_off, abs(p.high - d.high) AS high_off, abs(p.low - d.low) AS low_off,
           abs(p.close - d.close) AS close_off
    FROM present p JOIN middles d USING (consensus_id, bucket)
), usual AS (
    SELECT consensus_id, bucket, 5 * 1.4826 * consensus_median(open_off) AS open,
           5 * 1.4826 * consensus_median(high_off) AS high, 5 * 1.4826 * consensus_median(low_off) AS low,
           5 * 1.4826 * consensus_median(close_off) AS close
    FROM deviations GROUP BY 1, 2
), left_out AS MATERIALIZED (
    SELECT d.consensus_id, d.bucket, d.bit
    FROM deviations d JOIN usual u USING (consensus_id, bucket)
    WHERE d.open_off > greatest(u.open, 0.01 * d.open) OR d.high_off > greatest(u.high, 0.01 * d.high)
       OR d.low_off > greatest(u.low, 0.01 * d.low) OR d.close_off > greatest(u.close, 0.01 * d.close)
), judged AS (
    SELECT p.*, o.bit IS NULL AS good
    FROM present p LEFT JOIN left_out o USING (consensus_id, bucket, bit)
), sums AS (
    SELECT consensus_id, bucket,
           coalesce(sum(volume) FILTER (WHERE good), 0) AS volume,
           coalesce(sum(volume) FILTER (WHERE good), 0) = 0 AS silent,
           sum(open * volume) FILTER (WHERE good) AS open_v, sum(open) FILTER (WHERE good) AS open_1,
           sum(high * volume) FILTER (WHERE good) AS high_v, sum(high) FILTER (WHERE good) AS high_1,
           sum(low * volume) FILTER (WHERE good) AS low_v, sum(low) FILTER (WHERE good) AS low_1,
           sum(close * volume) FILTER (WHERE good) AS close_v, sum(close) FILTER (WHERE good) AS close_1,
           max(close) FILTER (WHERE good) - min(close) FILTER (WHERE good) AS apart,
           ('1e-' || greatest(2, max(min_scale(open)), max(min_scale(high)), max(min_scale(low)), max(min_scale(close))))::numeric AS unit,
           coalesce(bit_or(bit) FILTER (WHERE good), 0) AS taken, count(*) FILTER (WHERE good) AS takers,
           coalesce(bit_or(bit) FILTER (WHERE NOT good), 0) AS left_out,
           coalesce(bit_or(bit) FILTER (WHERE from_trades), 0) AS from_trades, sum(ticks) AS trades
    FROM judged GROUP BY 1, 2
), prices AS (
    SELECT s.*,
           consensus_quotient(CASE WHEN silent THEN open_1 ELSE open_v END, weight, unit) AS open,
           consensus_quotient(CASE WHEN silent THEN high_1 ELSE high_v END, weight, unit) AS high,
           consensus_quotient(CASE WHEN silent THEN low_1 ELSE low_v END, weight, unit) AS low,
           consensus_quotient(CASE WHEN silent THEN close_1 ELSE close_v END, weight, unit) AS close
    FROM sums s CROSS JOIN LATERAL (SELECT CASE WHEN silent THEN takers::numeric ELSE volume END AS weight) w
), stored AS (
    INSERT INTO consensus_candle AS c
        (consensus_id, bucket, open, high, low, close, volume, dispersion, taken, takers, left_out, from_trades, trades, met,
         revision)
    SELECT p.consensus_id, p.bucket, p.open, p.high, p.low, p.close, p.volume, round(p.apart / p.close, 8),
           p.taken, p.takers, p.left_out, p.from_trades, p.trades, p.takers >= q.required, 0
    FROM prices p JOIN consensus_quorum q USING (consensus_id)
    ORDER BY p.consensus_id, p.bucket
    ON CONFLICT (consensus_id, bucket) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
        dispersion = excluded.dispersion, taken = excluded.taken, takers = excluded.takers,
        left_out = excluded.left_out, from_trades = excluded.from_trades, trades = excluded.trades,
        met = c.met OR excluded.met,
        -- A different number of trades that changes nothing else (quantity 0) is not a revision.
        revision = c.revision + (c.met AND (c.open, c.high, c.low, c.close, c.volume, c.dispersion, c.taken, c.left_out,
                                            c.from_trades)
            IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume,
                              excluded.dispersion, excluded.taken, excluded.left_out, excluded.from_trades))::integer
    WHERE (c.open, c.high, c.low, c.close, c.volume, c.dispersion, c.taken, c.left_out, c.from_trades, c.trades)
          IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume,
                            excluded.dispersion, excluded.taken, excluded.left_out, excluded.from_trades, excluded.trades)
       OR excluded.met AND NOT c.met
    RETURNING 1
), gone AS (
    DELETE FROM consensus_candle c USING wanted w
    WHERE c.consensus_id = w.consensus_id AND c.bucket = w.bucket
      AND NOT EXISTS (SELECT FROM present p WHERE p.consensus_id = w.consensus_id AND p.bucket = w.bucket)
)
SELECT count(*) FROM stored

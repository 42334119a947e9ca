-- Store candles, ledger and delays of trades that the ledger did not contain: `minutes` are their candles, `stored` has
-- one row per instrument, `delayed` the counts of their delays.
merged_minutes AS (
    INSERT INTO trade_candle_1m AS c SELECT * FROM minutes ORDER BY 1, 2
    ON CONFLICT (instrument_id, bucket) DO UPDATE SET
        -- include: parts/merge_trade_candle
), merged_hours AS (
    INSERT INTO trade_candle_1h AS c
    SELECT instrument_id, time_bucket('1 hour', bucket), first(open, first_id), max(high), min(low), last(close, last_id),
           sum(volume), sum(turnover), sum(ticks), min(first_id), max(last_id)
    FROM minutes GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (instrument_id, bucket) DO UPDATE SET
        -- include: parts/merge_trade_candle
), covered AS (
    UPDATE trade_coverage c SET
        ids = c.ids + f.ids, rows = c.rows + f.rows, last_ts = greatest(c.last_ts, f.last_ts), updated_at = now(),
        live_from = coalesce(c.live_from, f.live_from)
    FROM stored f
    WHERE c.instrument_id = f.instrument_id
    RETURNING c.instrument_id, c.ids, f.low, f.high
), delays AS (
    INSERT INTO live_delays AS d (instrument_id, day, up_to_ms, trades) SELECT * FROM delayed
    ON CONFLICT (instrument_id, day, up_to_ms) DO UPDATE SET trades = d.trades + excluded.trades
), wrong AS (  -- an explanation never covers what is stored
    DELETE FROM holes h USING covered c
    WHERE h.instrument_id = c.instrument_id AND h.first_id < c.high AND h.last_id >= c.low
      AND int8range(h.first_id, h.last_id, '[]') && c.ids
    RETURNING h.*, c.ids
), days AS (
    SELECT DISTINCT instrument_id, 'trades' AS kind, time_bucket('1 day', bucket) AS day FROM minutes
),
-- include: parts/count_changes
INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at, signed_at)
SELECT instrument_id, lower(piece), upper(piece) - 1, reason, confirmed_at, signed_at
FROM wrong CROSS JOIN LATERAL unnest(int8multirange(int8range(first_id, last_id, '[]')) - ids) AS piece
ON CONFLICT (instrument_id, first_id, last_id, reason) WHERE first_id IS NOT NULL DO NOTHING

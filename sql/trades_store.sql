-- Store the staged trades that the ledger does not contain, with their candles and the ledger itself, in one statement.
-- The coverage rows are locked first (sql/trades_lock.sql), so this statement's snapshot sees what other writers committed.
WITH fresh AS MATERIALIZED (
    SELECT DISTINCT ON (s.instrument_id, s.trade_id) s.*
    FROM staged_trades s JOIN trade_coverage c USING (instrument_id)
    WHERE NOT s.trade_id <@ c.ids
    ORDER BY s.instrument_id, s.trade_id, s.row
), stored AS (
    INSERT INTO trades (instrument_id, trade_id, ts, price, quantity, taker_side, origin)
    SELECT instrument_id, trade_id, ts, price, quantity,
           (ARRAY['buy', 'sell', 'unknown']::taker_side[])[side],
           (ARRAY['live', 'snapshot', 'history', 'repair']::origin[])[origin]
    FROM fresh
), minutes AS MATERIALIZED (
    SELECT instrument_id, time_bucket('1 minute', ts) AS bucket,
           first(price, trade_id) AS open, max(price) AS high, min(price) AS low, last(price, trade_id) AS close,
           sum(quantity) AS volume, sum(price * quantity) AS turnover, count(*) AS ticks,
           min(trade_id) AS first_id, max(trade_id) AS last_id
    FROM fresh GROUP BY 1, 2
), merged_minutes AS (
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
    FROM (
        SELECT instrument_id, range_agg(int8range(trade_id, trade_id + 1)) AS ids, count(*) AS rows, max(ts) AS last_ts,
               min(trade_id) FILTER (WHERE origin <= 2) AS live_from  -- live or a snapshot of it
        FROM fresh GROUP BY 1
    ) f
    WHERE c.instrument_id = f.instrument_id
), changed AS (  -- spans that the archive works on or holds; by ctid, so that the index is used without statistics
    UPDATE archive_spans SET changes = changes + 1
    WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM (SELECT DISTINCT instrument_id, time_bucket('1 day', bucket) AS day FROM minutes) d
        CROSS JOIN LATERAL (
            SELECT a.ctid, a.from_ts FROM archive_spans a
            WHERE a.instrument_id = d.instrument_id AND a.kind = 'trades' AND a.to_ts > d.day ORDER BY a.to_ts LIMIT 1
        ) s
        WHERE s.from_ts <= d.day))
)
SELECT count(*) FROM fresh

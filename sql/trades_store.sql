-- Candles and ledger of trades that the ledger did not contain and that were just copied into `trades`. Their coverage rows
-- are locked (sql/trades_lock.sql), so this statement's snapshot sees the last writer's work.
WITH minutes AS MATERIALIZED (
    SELECT * FROM unnest(
        %(instrument)s::integer[], %(bucket)s::timestamptz[], %(open)s::numeric[], %(high)s::numeric[], %(low)s::numeric[],
        %(close)s::numeric[], %(volume)s::numeric[], %(turnover)s::numeric[], %(ticks)s::bigint[], %(first_id)s::bigint[],
        %(last_id)s::bigint[]
    ) AS m (instrument_id, bucket, open, high, low, close, volume, turnover, ticks, first_id, last_id)
), stored AS (
    SELECT instrument_id, range_agg(int8range(low, high)) AS ids, sum(high - low) AS rows, max(last_ts) AS last_ts,
           nullif(min(live_from), 9223372036854775807) AS live_from, min(low) AS low, max(high) AS high
    FROM unnest(%(run_of)s::integer[], %(run_low)s::bigint[], %(run_high)s::bigint[], %(run_last_ts)s::timestamptz[],
                %(run_live_from)s::bigint[]) AS run (instrument_id, low, high, last_ts, live_from)
    GROUP BY 1
), delayed AS (
    SELECT * FROM unnest(
        %(delay_of)s::integer[], %(delay_day)s::date[], %(delay_up_to_ms)s::integer[], %(delay_trades)s::bigint[])
),
-- include: parts/store_ledger

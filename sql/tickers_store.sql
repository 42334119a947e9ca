-- Store the tickers whose key (instrument, ts, seq) is new, with their candles. The instruments must be locked, so that
-- two writers cannot both find a key new, and retention drops nothing meanwhile. Where retention has dropped the rows,
-- nobody can tell whether a ticker is new: these (`gone`) are not stored. Returns the number of stored ones, the number
-- of new ones, and the places of `gone`.
WITH given AS MATERIALIZED (
    SELECT g.*, coalesce(g.ts < (SELECT dropped_before FROM instruments i WHERE i.instrument_id = g.instrument_id), false)
        OR EXISTS (SELECT FROM archive_spans a
                   WHERE a.instrument_id = g.instrument_id AND a.kind = 'quotes' AND a.to_ts > g.ts AND a.from_ts <= g.ts
                     AND NOT a.in_tables) AS gone
    FROM (
        SELECT instrument_id, TIMESTAMPTZ 'epoch' + at_us * INTERVAL '1 microsecond' AS ts, seq, bid, ask, bid_size, ask_size, row
        FROM unnest(
            %(instrument)s::integer[], %(at_us)s::bigint[], %(seq)s::integer[], %(bid)s::numeric[], %(ask)s::numeric[],
            %(bid_size)s::numeric[], %(ask_size)s::numeric[]
        ) WITH ORDINALITY AS given (instrument_id, at_us, seq, bid, ask, bid_size, ask_size, row)
    ) g
), fresh AS MATERIALIZED (
    SELECT DISTINCT ON (s.instrument_id, s.ts, s.seq) s.*
    FROM given s
    LEFT JOIN quotes q ON q.instrument_id = s.instrument_id AND q.ts = s.ts AND q.seq = s.seq
    WHERE q.instrument_id IS NULL AND NOT s.gone
    ORDER BY s.instrument_id, s.ts, s.seq, s.row
), stored AS (
    INSERT INTO quotes (instrument_id, ts, seq, bid, ask, bid_size, ask_size)
    SELECT instrument_id, ts, seq, bid, ask, bid_size, ask_size FROM fresh
    RETURNING 1
), minutes AS MATERIALIZED (
    SELECT instrument_id, time_bucket('1 minute', ts) AS bucket,
           (array_agg(bid ORDER BY ts, seq))[1] AS open, max(bid) AS high, min(bid) AS low,
           (array_agg(bid ORDER BY ts DESC, seq DESC))[1] AS close,
           (array_agg(ask ORDER BY ts, seq))[1] AS ask_open, max(ask) AS ask_high, min(ask) AS ask_low,
           (array_agg(ask ORDER BY ts DESC, seq DESC))[1] AS ask_close,
           sum(bid_size) AS bid_size, sum(ask_size) AS ask_size, sum(ask - bid) AS spread_sum, count(*) AS ticks,
           min(ts) AS first_ts, (array_agg(seq ORDER BY ts, seq))[1] AS first_seq,
           max(ts) AS last_ts, (array_agg(seq ORDER BY ts DESC, seq DESC))[1] AS last_seq
    FROM fresh GROUP BY 1, 2
), merged_minutes AS (
    INSERT INTO quote_candle_1m AS c SELECT * FROM minutes ORDER BY 1, 2
    ON CONFLICT (instrument_id, bucket) DO UPDATE SET
        -- include: parts/merge_quote_candle
), merged_hours AS (
    INSERT INTO quote_candle_1h AS c
    SELECT instrument_id, time_bucket('1 hour', bucket), first(open, bucket), max(high), min(low), last(close, bucket),
           first(ask_open, bucket), max(ask_high), min(ask_low), last(ask_close, bucket),
           sum(bid_size), sum(ask_size), sum(spread_sum), sum(ticks),
           min(first_ts), first(first_seq, bucket), max(last_ts), last(last_seq, bucket)
    FROM minutes GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (instrument_id, bucket) DO UPDATE SET
        -- include: parts/merge_quote_candle
), days AS (
    SELECT DISTINCT instrument_id, 'quotes' AS kind, time_bucket('1 day', bucket) AS day FROM minutes
),
-- include: parts/count_changes
SELECT (SELECT count(*) FROM stored), (SELECT count(*) FROM fresh), ARRAY(SELECT row - 1 FROM given WHERE gone ORDER BY row)

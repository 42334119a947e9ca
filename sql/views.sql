-- Views for people. This file is run whole whenever its text changed, so every statement is repeatable.

-- Candles of every time frame: made from the one-minute candles, from one hour on from the hourly ones, so that a day
-- costs 24 rows. A condition on bucket, venue or product_id reaches the tables' index.
DO $views$
DECLARE
    frame record;
BEGIN
    FOR frame IN
        SELECT * FROM (VALUES
            ('1m', '1 minute', '1m'), ('5m', '5 minutes', '1m'), ('15m', '15 minutes', '1m'), ('30m', '30 minutes', '1m'),
            ('1h', '1 hour', '1h'), ('4h', '4 hours', '1h'), ('12h', '12 hours', '1h'), ('1d', '1 day', '1h')
        ) AS t (name, width, source)
    LOOP
        EXECUTE format('DROP VIEW IF EXISTS bitcoin_candles_%1$s, candles_%1$s, quote_candles_%1$s', frame.name);

        -- Bid and ask; open, high, low and close are the bid's.
        EXECUTE format($sql$
            CREATE VIEW quote_candles_%1$s AS
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket) AS bucket,
                   first(c.open, c.bucket) AS open, max(c.high) AS high, min(c.low) AS low,
                   last(c.close, c.bucket) AS close,
                   first(c.ask_open, c.bucket) AS ask_open, max(c.ask_high) AS ask_high, min(c.ask_low) AS ask_low,
                   last(c.ask_close, c.bucket) AS ask_close,
                   sum(c.bid_size) AS bid_size, sum(c.ask_size) AS ask_size,
                   sum(c.spread_sum) / sum(c.ticks) AS spread, sum(c.ticks)::bigint AS ticks
            FROM quote_candle_%3$s c JOIN instruments i USING (instrument_id)
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
        $sql$, frame.name, frame.width, frame.source);

        -- Trades; where an instrument has only quotes, the bid with the bid sizes as volume and no vwap.
        EXECUTE format($sql$
            CREATE VIEW candles_%1$s AS
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket) AS bucket,
                   first(c.open, c.bucket) AS open, max(c.high) AS high, min(c.low) AS low,
                   last(c.close, c.bucket) AS close, sum(c.volume) AS volume,
                   sum(c.turnover) / nullif(sum(c.volume), 0) AS vwap, sum(c.ticks)::bigint AS ticks
            FROM trade_candle_%3$s c JOIN instruments i USING (instrument_id)
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
            UNION ALL
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket),
                   first(c.open, c.bucket), max(c.high), min(c.low), last(c.close, c.bucket),
                   sum(c.bid_size), NULL::numeric, sum(c.ticks)::bigint
            FROM quote_candle_%3$s c JOIN instruments i USING (instrument_id)
            WHERE NOT EXISTS (
                SELECT FROM trade_coverage t WHERE t.instrument_id = i.instrument_id AND NOT isempty(t.ids))
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
        $sql$, frame.name, frame.width, frame.source);

        -- The old name: bitcoin of every venue.
        EXECUTE format($sql$
            CREATE VIEW bitcoin_candles_%1$s AS
            SELECT bucket AS time, venue AS source, product_id AS symbol, open, high, low, close, volume, vwap, ticks
            FROM candles_%1$s WHERE product_id LIKE 'BTC-%%'
        $sql$, frame.name);
    END LOOP;
END
$views$;

-- The old names of the ticks.
DROP VIEW IF EXISTS forex_ticks;
CREATE VIEW forex_ticks AS
SELECT q.ts AS time, i.venue AS source, replace(i.product_id, '-', '') AS symbol, q.bid, q.ask, q.bid_size, q.ask_size
FROM quotes q JOIN instruments i USING (instrument_id)
WHERE i.asset_class IN ('forex', 'metal');

DROP VIEW IF EXISTS bitcoin_ticks;
CREATE VIEW bitcoin_ticks AS
SELECT t.ts AS time, i.venue || ' trades' AS source, i.product_id AS symbol, t.price, t.quantity, t.taker_side::text,
       NULL::numeric AS bid, NULL::numeric AS ask
FROM trades t JOIN instruments i USING (instrument_id) WHERE i.product_id LIKE 'BTC-%'
UNION ALL
SELECT q.ts, i.venue || ' quotes', i.product_id, NULL, NULL, NULL, q.bid, q.ask
FROM quotes q JOIN instruments i USING (instrument_id) WHERE i.product_id LIKE 'BTC-%';

-- Per instrument and kind: what is stored, what is missing inside the span, what of it is explained. Trades are counted
-- in ids, quotes in hours (rows are quotes all the same). Tickers are samples: completeness does not apply (NULL).
DROP VIEW IF EXISTS completeness;
CREATE VIEW completeness AS
WITH ids AS (
    SELECT c.instrument_id, c.rows, c.last_ts,
           (SELECT t.ts FROM trades t WHERE t.instrument_id = c.instrument_id ORDER BY t.ts LIMIT 1) AS first_ts,
           upper(c.ids) - lower(c.ids) AS span,
           coalesce((SELECT sum(g.missing) FROM trade_gaps g WHERE g.instrument_id = c.instrument_id), 0) AS missing
    FROM trade_coverage c WHERE NOT isempty(c.ids)
), hours AS (
    SELECT instrument_id, sum(ticks) AS rows, min(hour) AS first_hour, max(hour) AS last_hour,
           count(*) FILTER (WHERE state IN ('confirmed_empty', 'closed')) AS explained,
           count(*) FILTER (WHERE state <> 'seen_empty') AS accounted,
           extract(epoch FROM max(hour) - min(hour))::bigint / 3600 + 1 AS span,
           max(hour) FILTER (WHERE ticks > 0) AS last_present
    FROM quote_hours GROUP BY 1
), tickers AS (
    SELECT instrument_id, sum(ticks) AS rows, min(first_ts) AS first_ts, max(last_ts) AS last_ts
    FROM quote_candle_1h WHERE instrument_id NOT IN (SELECT instrument_id FROM hours) GROUP BY 1
), kinds AS (
    SELECT instrument_id, 'trades' AS kind, first_ts AS first_at, last_ts AS last_at, rows, missing,
           span - missing - rows AS explained, (span - missing)::numeric / span AS share_complete
    FROM ids
    UNION ALL
    SELECT instrument_id, 'quotes', first_hour,
           coalesce((SELECT max(q.last_ts) FROM quote_candle_1h q
                     WHERE q.instrument_id = hours.instrument_id AND q.bucket = last_present), last_hour),
           rows, span - accounted, explained, accounted::numeric / span
    FROM hours
    UNION ALL
    SELECT instrument_id, 'tickers', first_ts, last_ts, rows, NULL,
           (SELECT count(*) FROM holes h WHERE h.instrument_id = tickers.instrument_id AND h.reason = 'not_listening'), NULL
    FROM tickers
)
SELECT i.venue, i.product_id, k.kind, k.first_at, k.last_at, k.rows, k.missing, k.explained,
       round(k.share_complete, 6) AS share_complete, now() - k.last_at AS last_age
FROM kinds k JOIN instruments i USING (instrument_id)
ORDER BY i.venue, i.product_id, k.kind;

-- Views for people and, at the end, functions for programs. The whole file runs again whenever its text changes, so
-- every statement must be repeatable. Views are replaced, not dropped: people grant rights on them and make views of
-- their own from them. Where columns change, views_drop.sql runs before.

-- Candles of every timeframe, made from the one-minute candles, from 1h on from the hourly ones, so that a day costs 24
-- rows. A condition on bucket, venue or product_id uses the tables' index.
DO $views$
DECLARE
    frame record;
    -- Aggregates of finer candles: those of trades ordered by trade id, as in the hourly tables (a trade may have an
    -- earlier time than the one before it), those of quotes by time.
    prices CONSTANT text := 'first(c.open, c.%s) AS open, max(c.high) AS high, min(c.low) AS low,
                   last(c.close, c.%s) AS close';
    by_id CONSTANT text := format(prices, 'first_id', 'last_id');
    by_time CONSTANT text := format(prices, 'bucket', 'bucket');
BEGIN
    FOR frame IN
        SELECT * FROM (VALUES
            ('1m', '1 minute', '1m'), ('5m', '5 minutes', '1m'), ('15m', '15 minutes', '1m'), ('30m', '30 minutes', '1m'),
            ('1h', '1 hour', '1h'), ('4h', '4 hours', '1h'), ('12h', '12 hours', '1h'), ('1d', '1 day', '1h')
        ) AS t (name, width, source)
    LOOP
        -- Bid and ask; open, high, low and close are the bid's.
        EXECUTE format($sql$
            CREATE OR REPLACE VIEW quote_candles_%1$s AS
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket) AS bucket,
                   %4$s,
                   first(c.ask_open, c.bucket) AS ask_open, max(c.ask_high) AS ask_high, min(c.ask_low) AS ask_low,
                   last(c.ask_close, c.bucket) AS ask_close,
                   sum(c.bid_size) AS bid_size, sum(c.ask_size) AS ask_size,
                   sum(c.spread_sum) / sum(c.ticks) AS spread, sum(c.ticks)::bigint AS ticks
            FROM quote_candle_%3$s c JOIN instruments i USING (instrument_id)
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
        $sql$, frame.name, frame.width, frame.source, by_time);

        -- Trades. If an instrument has only quotes, or its hours of quotes are what is accounted for: the bid, with bid
        -- sizes as volume and no vwap.
        EXECUTE format($sql$
            CREATE OR REPLACE VIEW candles_%1$s AS
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket) AS bucket,
                   %4$s, sum(c.volume) AS volume,
                   sum(c.turnover) / nullif(sum(c.volume), 0) AS vwap, sum(c.ticks)::bigint AS ticks
            FROM trade_candle_%3$s c JOIN instruments i USING (instrument_id)
            WHERE i.proof IS DISTINCT FROM 'hours'
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
            UNION ALL
            SELECT i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket),
                   %5$s, sum(c.bid_size), NULL::numeric, sum(c.ticks)::bigint
            FROM quote_candle_%3$s c JOIN instruments i USING (instrument_id)
            WHERE i.proof = 'hours' OR NOT EXISTS (
                SELECT FROM trade_coverage t WHERE t.instrument_id = i.instrument_id AND NOT isempty(t.ids))
            GROUP BY i.venue, i.product_id, time_bucket(%2$L::interval, c.bucket)
        $sql$, frame.name, frame.width, frame.source, by_id, by_time);

        -- Bitcoin of every venue, under the former service's name.
        EXECUTE format($sql$
            CREATE OR REPLACE VIEW bitcoin_candles_%1$s AS
            SELECT bucket AS time, venue AS source, product_id AS symbol, open, high, low, close, volume, vwap, ticks
            FROM candles_%1$s WHERE product_id LIKE 'BTC-%%'
        $sql$, frame.name);
    END LOOP;
END
$views$;

-- include: consensus_views

-- Ticks under the former service's names.
CREATE OR REPLACE VIEW forex_ticks AS
SELECT q.ts AS time, i.venue AS source, replace(i.product_id, '-', '') AS symbol, q.bid, q.ask, q.bid_size, q.ask_size
FROM quotes q JOIN instruments i USING (instrument_id)
WHERE i.asset_class IN ('forex', 'metal');

CREATE OR REPLACE VIEW bitcoin_ticks AS
SELECT t.ts AS time, i.venue || ' trades' AS source, i.product_id AS symbol, t.price, t.quantity, t.taker_side::text,
       NULL::numeric AS bid, NULL::numeric AS ask
FROM trades t JOIN instruments i USING (instrument_id) WHERE i.product_id LIKE 'BTC-%'
UNION ALL
SELECT q.ts, i.venue || ' quotes', i.product_id, NULL, NULL, NULL, q.bid, q.ask
FROM quotes q JOIN instruments i USING (instrument_id) WHERE i.product_id LIKE 'BTC-%';

-- The archive: the current file of every span. `up_to_date`: nothing has changed since it was written; `in_tables`: its
-- rows are in the tables too, from where readers of both tiers take them.
CREATE OR REPLACE VIEW archived AS
SELECT i.venue, i.product_id, s.kind, s.from_ts, s.to_ts, f.rows, f.bytes, f.hash, f.revision, f.path, f.first_ts, f.last_ts,
       f.first_id, f.last_id, f.archived_at, s.changes = s.archived_changes AS up_to_date, s.in_tables, s.instrument_id
FROM archive_files f
JOIN archive_spans s USING (instrument_id, kind, from_ts)
JOIN instruments i USING (instrument_id)
WHERE f.ended_at IS NULL;

-- The intervals whose rows are read from files. Rows of these intervals in the tables arrived later and are in no file
-- yet. Hours of quotes that were replaced since are excluded.
CREATE OR REPLACE VIEW archive_only AS
SELECT venue, product_id, kind, instrument_id, lower(span) AS from_ts, upper(span) AS to_ts
FROM (
    SELECT venue, product_id, kind, instrument_id,
           unnest(range_agg(tstzrange(from_ts, to_ts)) - range_agg(replaced)) AS span
    FROM archive_spans JOIN instruments USING (instrument_id) WHERE NOT in_tables GROUP BY 1, 2, 3, 4
) spans;

-- How the completeness of one kind of data is proven, given its instrument; NULL if it cannot be. Trades are not proven
-- by hours, quotes not by ids, and tickers are samples at any venue.
CREATE OR REPLACE FUNCTION proof_of(kind text, proof text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE kind WHEN 'trades' THEN nullif(proof, 'hours')
                     WHEN 'quotes' THEN CASE WHEN proof IN ('hours', 'sampled') THEN proof END
                     ELSE 'sampled' END
$$;

-- Whether the venue confirmed within the last minute. A time ahead of this clock, which must have been set back, does
-- not count.
CREATE OR REPLACE FUNCTION confirmed(checked_at timestamptz) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(checked_at > now() - INTERVAL '60 seconds' AND checked_at < now() + INTERVAL '10 seconds', false)
$$;

-- The trade ids that must be accounted for: those that loads requested, and from the first id of the live stream on all
-- that the venue is known to have. Ids that the venue showed within the last 10 s may still be on their way. A stored
-- id above what the venue confirmed within the last minute proves nothing about those below it: it may be an error.
CREATE OR REPLACE VIEW trade_asked AS
SELECT c.instrument_id,
       CASE WHEN c.live_from IS NULL AND isempty(c.asked) THEN int8multirange(range_merge(c.ids))  -- no request known
            WHEN c.live_from <= upto.id THEN c.asked + int8multirange(int8range(c.live_from, upto.id, '[]'))
            ELSE c.asked END AS ids,
       c.ids AS stored, c.rows, c.last_ts, c.live_from IS NOT NULL AS live, h.newest_id, h.checked_at
FROM trade_coverage c
LEFT JOIN trade_heads h USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT greatest(
        CASE WHEN h.seen_at <= now() - INTERVAL '10 seconds' THEN h.newest_id ELSE h.settled_id END,
        upper(CASE WHEN confirmed(h.checked_at)
                   THEN c.ids * int8multirange(int8range(NULL, h.newest_id, '[]')) ELSE c.ids END) - 1) AS id
) upto;

-- Requested ids that are neither stored nor explained by a signed finding. Only for venues whose ids are contiguous.
CREATE OR REPLACE VIEW trade_gaps AS
SELECT i.instrument_id, i.venue, i.product_id, lower(gap) AS first_id, upper(gap) - 1 AS last_id,
       upper(gap) - lower(gap) AS missing
FROM instruments i
JOIN trade_asked a USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT coalesce(range_agg(int8range(first_id, last_id, '[]')), '{}') AS ids
    FROM holes h WHERE h.instrument_id = i.instrument_id AND h.first_id IS NOT NULL AND h.signed_at IS NOT NULL
) explained
CROSS JOIN LATERAL unnest(a.ids - a.stored - explained.ids) AS gap
WHERE i.proof = 'contiguous ids';

-- The same for trades proven by time: the time that loads requested, and the live stream up to the last proven moment.
CREATE OR REPLACE VIEW trade_time_asked AS
SELECT w.instrument_id,
       CASE WHEN w.live_from < upper(w.proven) THEN w.asked + tstzmultirange(tstzrange(w.live_from, upper(w.proven)))
            ELSE w.asked END AS times,
       w.proven, w.live_from IS NOT NULL AS live,
       -- The end of the proof is by the venue's clock, which may be ahead; the check is by ours. The earlier one
       -- counts.
       CASE WHEN w.live_from < upper(w.proven) AND w.checked_at IS NOT NULL
            THEN least(upper(w.proven), w.checked_at) END AS checked_at
FROM trade_windows w JOIN instruments i USING (instrument_id)
WHERE i.proof IN ('time windows', 'sequence per connection');

CREATE OR REPLACE VIEW trade_time_gaps AS
SELECT i.instrument_id, i.venue, i.product_id, lower(gap) AS from_ts, upper(gap) AS to_ts
FROM instruments i
JOIN trade_time_asked a USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT coalesce(range_agg(tstzrange(from_ts, to_ts)), '{}') AS times
    FROM holes h WHERE h.instrument_id = i.instrument_id AND h.from_ts IS NOT NULL AND h.signed_at IS NOT NULL
) explained
CROSS JOIN LATERAL unnest(a.times - a.proven - explained.times) AS gap;

-- Time in which no samples were received; they cannot be fetched later.
CREATE OR REPLACE VIEW missed_time AS
SELECT i.instrument_id, i.venue, i.product_id, h.from_ts, h.to_ts
FROM holes h JOIN instruments i USING (instrument_id) WHERE h.reason = 'not_listening';

-- The hours of quotes that must be accounted for: those that loads requested, and for followed instruments every hour
-- that ended at least two hours ago (the vendor publishes an hour up to an hour after its end).
CREATE OR REPLACE VIEW quote_asked AS
SELECT k.instrument_id, r.follow_from IS NOT NULL AS follows,
       CASE WHEN r.follow_from IS NOT NULL AND r.follow_from < upto.hour
            THEN r.hours + tstzmultirange(tstzrange(r.follow_from, upto.hour))
            ELSE coalesce(r.hours, tstzmultirange(tstzrange(k.first_hour, k.last_hour + INTERVAL '1 hour'))) END AS hours
FROM (
    SELECT instrument_id, min(hour) AS first_hour, max(hour) AS last_hour FROM quote_hours GROUP BY 1
    UNION ALL
    SELECT instrument_id, NULL, NULL FROM quote_requests
    WHERE instrument_id NOT IN (SELECT instrument_id FROM quote_hours)
) k
LEFT JOIN quote_requests r USING (instrument_id)
CROSS JOIN LATERAL (SELECT date_trunc('hour', now(), 'UTC') - INTERVAL '2 hours' AS hour) upto;

-- Per instrument and kind: what is stored, and what is missing of what was requested. The unit depends on `proof`: ids
-- (`contiguous ids`), seconds (`time windows`, `sequence per connection`) or hours (`hours`; `rows` still counts
-- quotes).
--
-- Data that is `sampled` or has no proof (NULL) is never complete: `missing` and `share_complete` are NULL. For
-- samples, `explained` is the number of times in which nobody listened, `missed` their total length; `missed_time`
-- lists them. If the venue could not be asked about a live product for a minute, nobody knows: `share_complete` is
-- NULL, and so is `missing`, unless it is above 0. `explained` counts what is not stored but accounted for,
-- `explained_by` the same by reason. `proven_until` is the time for which the venue last confirmed these counts.
CREATE OR REPLACE VIEW completeness AS
WITH ids AS (
    SELECT a.*, sizes.asked, sizes.missing, reasons.explained, reasons.explained_by,
           least((SELECT t.ts FROM trades t WHERE t.instrument_id = a.instrument_id ORDER BY t.ts LIMIT 1),
                 (SELECT min(f.first_ts) FROM archived f
                  WHERE f.instrument_id = a.instrument_id AND f.kind = 'trades')) AS first_ts,
           NOT a.live OR confirmed(a.checked_at) AS known
    FROM trade_asked a
    JOIN instruments i ON i.instrument_id = a.instrument_id AND i.proof = 'contiguous ids'
    CROSS JOIN LATERAL (
        SELECT coalesce((SELECT sum(upper(r) - lower(r)) FROM unnest(a.ids) r), 0) AS asked,
               coalesce((SELECT sum(g.missing) FROM trade_gaps g WHERE g.instrument_id = a.instrument_id), 0) AS missing
    ) sizes
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(n), 0) AS explained, jsonb_object_agg(reason, n) FILTER (WHERE n > 0) AS explained_by
        FROM (
            SELECT reason,
                   (SELECT sum(upper(r) - lower(r)) FROM unnest((range_agg(int8range(first_id, last_id, '[]')) - a.stored) * a.ids) r) AS n
            FROM holes h
            WHERE h.instrument_id = a.instrument_id AND h.first_id IS NOT NULL AND h.signed_at IS NOT NULL
            GROUP BY reason
        ) by_reason
    ) reasons
    WHERE NOT (isempty(a.ids) AND isempty(a.stored) AND a.checked_at IS NULL)
), times AS (
    SELECT a.instrument_id, a.live, a.checked_at, sizes.asked_s, sizes.missing_s, reasons.explained_s, reasons.explained_by,
           NOT a.live OR confirmed(a.checked_at) AS known
    FROM trade_time_asked a
    CROSS JOIN LATERAL (
        SELECT coalesce((SELECT sum(extract(epoch FROM upper(r) - lower(r))) FROM unnest(a.times) r), 0) AS asked_s,
               coalesce((SELECT sum(extract(epoch FROM to_ts - from_ts)) FROM trade_time_gaps g
                         WHERE g.instrument_id = a.instrument_id), 0) AS missing_s
    ) sizes
    CROSS JOIN LATERAL (
        SELECT ceil(coalesce(sum(s), 0)) AS explained_s, jsonb_object_agg(reason, ceil(s)) FILTER (WHERE s > 0) AS explained_by
        FROM (
            SELECT reason, (SELECT sum(extract(epoch FROM upper(r) - lower(r)))
                            FROM unnest((range_agg(tstzrange(from_ts, to_ts)) - a.proven) * a.times) r) AS s
            FROM holes h
            WHERE h.instrument_id = a.instrument_id AND h.from_ts IS NOT NULL AND h.signed_at IS NOT NULL
            GROUP BY reason
        ) by_reason
    ) reasons
), hours AS (
    SELECT a.instrument_id, a.follows, sum(q.ticks) AS rows, min(q.hour) AS first_hour, max(q.hour) AS last_hour,
           (SELECT sum(extract(epoch FROM upper(r) - lower(r)))::bigint / 3600 FROM unnest(a.hours) r) AS asked,
           count(*) FILTER (WHERE q.state = 'closed') AS closed,
           count(*) FILTER (WHERE q.state = 'confirmed_empty') AS empty,
           count(*) FILTER (WHERE q.hour <@ a.hours AND q.state <> 'seen_empty'
                              AND (q.state <> 'partial' OR (a.follows AND q.hour > now() - INTERVAL '3 hours'))) AS accounted,
           max(q.hour) FILTER (WHERE q.ticks > 0) AS last_present
    FROM quote_asked a LEFT JOIN quote_hours q USING (instrument_id) GROUP BY a.instrument_id, a.follows, a.hours
), tickers AS (
    SELECT instrument_id, sum(ticks) AS rows, min(first_ts) AS first_ts, max(last_ts) AS last_ts
    FROM quote_candle_1h WHERE instrument_id NOT IN (SELECT instrument_id FROM hours) GROUP BY 1
), kinds AS (
    SELECT instrument_id, 'trades' AS kind, first_ts AS first_at, last_ts AS last_at, rows,
           CASE WHEN known OR missing > 0 THEN missing END AS missing, explained,
           CASE WHEN known AND asked > 0 THEN (asked - missing)::numeric / asked END AS share_complete,
           live, CASE WHEN live THEN checked_at END AS proven_until, explained_by
    FROM ids
    UNION ALL
    SELECT c.instrument_id, 'trades', (SELECT t.ts FROM trades t WHERE t.instrument_id = c.instrument_id ORDER BY t.ts LIMIT 1),
           c.last_ts, c.rows, CASE WHEN t.known OR t.missing_s > 0 THEN ceil(t.missing_s) END, coalesce(t.explained_s, 0),
           CASE WHEN t.known AND t.asked_s > 0 THEN (t.asked_s - t.missing_s) / t.asked_s END,
           t.live, CASE WHEN t.live THEN t.checked_at END, t.explained_by
    FROM trade_coverage c
    JOIN instruments i ON i.instrument_id = c.instrument_id AND i.proof IS DISTINCT FROM 'contiguous ids'
    LEFT JOIN times t ON t.instrument_id = c.instrument_id
    WHERE c.rows > 0 OR t.asked_s > 0 OR t.live
    UNION ALL
    SELECT instrument_id, 'quotes', first_hour,
           coalesce((SELECT max(q.last_ts) FROM quote_candle_1h q
                     WHERE q.instrument_id = hours.instrument_id AND q.bucket = last_present), last_hour),
           coalesce(rows, 0), greatest(asked - accounted, 0), closed + empty,
           CASE WHEN asked > 0 THEN least(accounted, asked)::numeric / asked END, follows, NULL,
           nullif(jsonb_strip_nulls(jsonb_build_object('closed', nullif(closed, 0), 'confirmed_empty', nullif(empty, 0))), '{}')
    FROM hours
    UNION ALL
    SELECT instrument_id, 'tickers', first_ts, last_ts, rows, NULL, 0, NULL, NULL, NULL, NULL
    FROM tickers
)
-- Truncated, not rounded: with one of ten million missing, the share is not 1.
SELECT i.venue, i.product_id, k.kind, k.first_at, k.last_at, k.rows,
       CASE WHEN p.complete THEN k.missing END AS missing, coalesce(m.times, k.explained) AS explained,
       CASE WHEN p.complete THEN trunc(k.share_complete, 6) END AS share_complete, now() - k.last_at AS last_age,
       k.live, k.proven_until, k.explained_by, p.proof, m.missed
FROM kinds k
JOIN instruments i USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT proof_of(k.kind, i.proof) AS proof, coalesce(proof_of(k.kind, i.proof) <> 'sampled', false) AS complete
) p
LEFT JOIN LATERAL (
    SELECT count(*) AS times, coalesce(sum(extract(epoch FROM upper(r) - lower(r))), 0) * INTERVAL '1 second' AS missed
    FROM unnest((SELECT range_agg(tstzrange(from_ts, to_ts)) FROM missed_time t WHERE t.instrument_id = k.instrument_id)) r
) m ON p.proof = 'sampled'
ORDER BY i.venue, i.product_id, k.kind;

-- include: functions/store_few_trades

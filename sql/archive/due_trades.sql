-- Past days with trades that are in no file yet or changed since, and whether nothing is missing in them. A gap lies
-- between the times of its neighbours, plus an hour on either side, because times do not strictly follow ids; a neighbour
-- that is only in the archive is found there by its id. Archiving too early costs only another version later.
WITH days AS (
    SELECT c.instrument_id, time_bucket('1 day', c.bucket) AS day, sum(c.ticks)::bigint AS rows
    FROM trade_candle_1h c
    WHERE c.bucket < time_bucket('1 day', %(before)s::timestamptz)
    GROUP BY 1, 2
), gaps AS (
    SELECT g.instrument_id,
           coalesce((SELECT t.ts FROM trades t
                     WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.first_id - 1 LIMIT 1),
                    (SELECT min(f.first_ts) FROM archived f WHERE f.instrument_id = g.instrument_id AND f.kind = 'trades'
                       AND g.first_id - 1 BETWEEN f.first_id AND f.last_id), '-infinity') - INTERVAL '1 hour' AS lo,
           coalesce((SELECT t.ts FROM trades t
                     WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.last_id + 1 LIMIT 1),
                    (SELECT max(f.last_ts) FROM archived f WHERE f.instrument_id = g.instrument_id AND f.kind = 'trades'
                       AND g.last_id + 1 BETWEEN f.first_id AND f.last_id), 'infinity') + INTERVAL '1 hour' AS hi
    FROM trade_gaps g
    UNION ALL
    SELECT instrument_id, from_ts, to_ts FROM trade_time_gaps  -- of what is proven by time
), known AS (
    -- What is stored is complete up to here: the newest trade, or the moment for which the venue confirmed it. Samples,
    -- and trades without a proof, are never known to be complete.
    SELECT c.instrument_id,
           CASE WHEN i.proof IN ('time windows', 'sequence per connection')
                THEN CASE WHEN w.live THEN coalesce(w.checked_at, '-infinity') ELSE 'infinity' END
                WHEN i.proof IS DISTINCT FROM 'contiguous ids' OR c.live_from IS NULL THEN 'infinity'
                WHEN h.settled_id <@ c.ids THEN greatest(c.last_ts, h.checked_at) ELSE c.last_ts END AS until
    FROM trade_coverage c
    JOIN instruments i USING (instrument_id)
    LEFT JOIN trade_heads h USING (instrument_id)
    LEFT JOIN trade_time_asked w USING (instrument_id)
)
SELECT d.instrument_id, i.venue, i.product_id, d.day, d.rows, s.from_ts AS span_from, s.to_ts AS span_to,
       s.archived_changes IS NOT NULL AS archived,
       d.day + INTERVAL '1 day' <= k.until AND NOT EXISTS (
           SELECT FROM gaps g
           WHERE g.instrument_id = d.instrument_id AND g.lo < d.day + INTERVAL '1 day' AND g.hi > d.day) AS complete
FROM days d
JOIN instruments i USING (instrument_id)
JOIN known k USING (instrument_id)
LEFT JOIN archive_spans s ON s.instrument_id = d.instrument_id AND s.kind = 'trades' AND s.from_ts <= d.day AND s.to_ts > d.day
WHERE s.archived_changes IS DISTINCT FROM s.changes OR s.changes IS NULL
ORDER BY d.day, d.instrument_id

-- Trades that are missing or explained, as the time between their stored neighbours; missing ones first. If none is stored
-- after them (the stream stopped), they are missing up to now.
WITH spans AS (
    SELECT first_id, last_id, 'missing' AS state, 'asked for again' AS reason
    FROM trade_gaps WHERE instrument_id = %(id)s
    UNION ALL
    SELECT first_id, last_id, 'explained', reason FROM holes
    WHERE instrument_id = %(id)s AND first_id IS NOT NULL AND signed_at IS NOT NULL
), timed AS (
    SELECT s.*,
           (SELECT t.ts FROM trades t WHERE t.instrument_id = %(id)s AND t.trade_id < s.first_id
            ORDER BY t.trade_id DESC LIMIT 1) AS before_ts,
           (SELECT t.ts FROM trades t WHERE t.instrument_id = %(id)s AND t.trade_id > s.last_id
            ORDER BY t.trade_id LIMIT 1) AS after_ts
    FROM (SELECT * FROM spans ORDER BY state DESC, last_id DESC LIMIT %(most)s) s
), placed AS (
    SELECT *, coalesce(before_ts, after_ts, now()) AS from_ts,
           greatest(coalesce(after_ts, now()), before_ts) AS to_ts
    FROM timed
)
SELECT extract(epoch FROM from_ts)::float8 AS from_s, extract(epoch FROM to_ts)::float8 AS to_s, state, reason,
       last_id - first_id + 1 AS count, first_id, last_id
FROM placed
WHERE from_ts < %(to)s AND to_ts >= %(from)s
ORDER BY to_ts DESC, last_id DESC

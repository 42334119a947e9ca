-- Trades that are missing or explained, as the time between the stored neighbours.
WITH spans AS (
    SELECT first_id, last_id, 'missing' AS state, 'asked for again' AS reason
    FROM trade_gaps WHERE instrument_id = %(id)s
    UNION ALL
    SELECT first_id, last_id, 'explained', reason FROM holes
    WHERE instrument_id = %(id)s AND first_id IS NOT NULL AND signed_at IS NOT NULL
), timed AS (
    SELECT s.*,
           (SELECT t.ts FROM trades t WHERE t.instrument_id = %(id)s AND t.trade_id < s.first_id
            ORDER BY t.trade_id DESC LIMIT 1) AS from_ts,
           (SELECT t.ts FROM trades t WHERE t.instrument_id = %(id)s AND t.trade_id > s.last_id
            ORDER BY t.trade_id LIMIT 1) AS to_ts
    FROM (SELECT * FROM spans ORDER BY last_id DESC LIMIT %(most)s) s
)
SELECT from_ts, to_ts, state, reason, last_id - first_id + 1, first_id, last_id FROM timed
WHERE from_ts < %(to)s AND to_ts >= %(from)s
ORDER BY to_ts DESC

-- Time in which trades are missing or explained; missing time first.
WITH spans AS (
    SELECT from_ts, to_ts, 'missing' AS state, 'not proven' AS reason FROM trade_time_gaps WHERE instrument_id = %(id)s
    UNION ALL
    SELECT from_ts, to_ts, 'explained', reason FROM holes
    WHERE instrument_id = %(id)s AND from_ts IS NOT NULL AND signed_at IS NOT NULL
), found AS (
    SELECT * FROM spans WHERE from_ts < %(to)s AND to_ts >= %(from)s ORDER BY state DESC, from_ts DESC LIMIT %(most)s
)
SELECT extract(epoch FROM from_ts)::float8 AS from_s, extract(epoch FROM to_ts)::float8 AS to_s, state, reason,
       NULL::integer AS count
FROM found ORDER BY from_ts DESC

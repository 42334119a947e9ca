-- For a day of trades proven by time windows: the times that are neither proven nor explained, and the explained seconds by
-- reason.
WITH day AS (
    SELECT tstzmultirange(tstzrange(%(from)s, %(to)s)) AS times,
           coalesce((SELECT proven FROM trade_windows WHERE instrument_id = %(instrument)s), '{}') AS proven
), explained AS (
    SELECT reason, range_agg(tstzrange(from_ts, to_ts)) * (SELECT times - proven FROM day) AS times
    FROM holes WHERE instrument_id = %(instrument)s AND from_ts < %(to)s AND to_ts > %(from)s AND signed_at IS NOT NULL
    GROUP BY reason
)
SELECT ARRAY(
           SELECT format('%%s to %%s', to_char(lower(r) AT TIME ZONE 'UTC', 'HH24:MI:SS'), to_char(upper(r) AT TIME ZONE 'UTC', 'HH24:MI:SS'))
           FROM unnest(d.times - d.proven - coalesce((SELECT range_agg(r) FROM explained, unnest(times) r), '{}')) r LIMIT 20
       ) AS missing,
       (SELECT jsonb_object_agg(reason, s) FROM (
            SELECT reason, (SELECT ceil(sum(extract(epoch FROM upper(r) - lower(r))))::bigint FROM unnest(times) r) AS s
            FROM explained) seconds
        WHERE s > 0) AS explained
FROM day d

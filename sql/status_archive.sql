-- Per instrument and kind: what the archive's files hold, how much of it only they hold, and how many files are out of
-- date.
SELECT venue, product_id, kind, count(*) AS files, sum(rows)::bigint AS rows, sum(bytes)::bigint AS bytes,
       coalesce(sum(rows) FILTER (WHERE NOT in_tables), 0)::bigint AS files_only,
       count(*) FILTER (WHERE NOT up_to_date) AS changed, min(from_ts) AS from_at, max(to_ts) AS until_at,
       extract(epoch FROM now() - max(to_ts))::float8 AS age_s
FROM archived GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 DESC

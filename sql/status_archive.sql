-- Per instrument and kind: what is in files of the archive, how much of it is nowhere else, and how many files wait for
-- a newer version.
SELECT venue, product_id, kind, count(*) AS files, sum(rows)::bigint AS rows, sum(bytes)::bigint AS bytes,
       coalesce(sum(rows) FILTER (WHERE NOT in_tables), 0)::bigint AS files_only,
       count(*) FILTER (WHERE NOT up_to_date) AS changed, min(from_ts) AS from_at, max(to_ts) AS until_at,
       extract(epoch FROM now() - max(to_ts))::float8 AS age_s
FROM archived GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 DESC

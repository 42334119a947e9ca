-- Rows and ledger must hold the same ids; what retention dropped is in the ledger alone, or in files of the archive, which
-- know how many rows they have and between which ids.
-- No id twice, either. A minute whose ids are as many as lie between the least and the greatest has all of them; only the
-- others are looked at one by one. (A range for each of 2 M ids took twice as long, and 300 MB.)
WITH minutes AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 minute', ts) AS minute, count(*) AS rows, min(trade_id) AS low, max(trade_id) AS high,
           count(*) = count(DISTINCT trade_id) AND count(*) = max(trade_id) - min(trade_id) + 1 AS whole
    FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
    GROUP BY 1
), pieces AS (
    SELECT int8range(low, high, '[]') AS ids, rows FROM minutes WHERE whole
    UNION ALL
    SELECT int8range(trade_id, trade_id + 1), 1
    FROM trades t JOIN minutes m ON m.minute = time_bucket(INTERVAL '1 minute', t.ts) AND NOT m.whole
    WHERE t.instrument_id = %(instrument)s AND t.ts >= %(from)s AND t.ts < %(to)s
), stored AS MATERIALIZED (
    SELECT coalesce(range_agg(ids), '{}') AS ids, coalesce(sum(rows), 0) AS rows FROM pieces
), files AS (
    SELECT coalesce(range_agg(int8range(first_id, last_id, '[]')), '{}') AS ids, coalesce(sum(rows), 0) AS rows
    FROM archived WHERE instrument_id = %(instrument)s AND kind = 'trades' AND NOT in_tables
), ledger AS (
    SELECT c.ids, c.rows, i.dropped_before FROM trade_coverage c JOIN instruments i USING (instrument_id)
    WHERE c.instrument_id = %(instrument)s
)
SELECT format('rows are stored that the ledger does not contain: %%s', s.ids - l.ids)
FROM stored s, ledger l WHERE NOT s.ids <@ l.ids
UNION ALL
SELECT format('the ledger counts %%s rows, its ids are %%s', l.rows, (SELECT sum(upper(r) - lower(r)) FROM unnest(l.ids) r))
FROM ledger l WHERE l.rows IS DISTINCT FROM (SELECT sum(upper(r) - lower(r)) FROM unnest(l.ids) r)
UNION ALL
SELECT format('the ledger contains ids that are not stored: %%s', missing)
FROM stored s, files f, ledger l,
     LATERAL (SELECT CASE WHEN s.ids = '{}' THEN '{}'::int8multirange
                          ELSE l.ids * int8multirange(range_merge(s.ids)) - s.ids - f.ids END AS missing) m
WHERE missing <> '{}'
UNION ALL
SELECT format('the ledger contains %%s ids, %%s rows are stored and %%s in files of the archive', l.rows, s.rows, f.rows)
FROM stored s, files f, ledger l
WHERE l.dropped_before IS NULL AND %(from)s < '1980-01-01'::timestamptz AND %(to)s > '2100-01-01'::timestamptz
  AND s.rows + f.rows <> l.rows
UNION ALL
SELECT * FROM (
    SELECT format('id %%s is stored %%s times', trade_id, count(*))
    FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
      AND (SELECT s.rows <> coalesce((SELECT sum(upper(r) - lower(r)) FROM unnest(s.ids) r), 0) FROM stored s)
    GROUP BY trade_id HAVING count(*) > 1 LIMIT 20
) twice

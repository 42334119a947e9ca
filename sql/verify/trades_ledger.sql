-- Rows and ledger must hold the same ids; what retention dropped is in the ledger alone, or in files of the archive, which
-- know how many rows they have and between which ids. No id twice, either. `ids` and `rows` are those of trades_rows.
WITH stored AS MATERIALIZED (
    SELECT coalesce(range_agg(ids), '{}') AS ids, %(rows)s::bigint AS rows FROM unnest(%(ids)s::int8multirange[]) AS u (ids)
), files AS (
    SELECT coalesce(range_agg(int8range(first_id, last_id, '[]')), '{}') AS ids, coalesce(sum(rows), 0) AS rows
    FROM archived WHERE instrument_id = %(instrument)s AND kind = 'trades' AND NOT in_tables
), ledger AS (
    SELECT coalesce(c.ids, '{}') AS ids, coalesce(c.rows, 0) AS rows, i.dropped_before
    FROM instruments i LEFT JOIN trade_coverage c USING (instrument_id)
    WHERE i.instrument_id = %(instrument)s
), dropped AS (  -- the candles keep their ids; what was loaded later may lie before and after them
    SELECT coalesce(range_agg(int8range(c.first_id, c.last_id, '[]')), '{}') AS ids
    FROM trade_candle_1h c JOIN ledger l ON c.bucket < l.dropped_before WHERE c.instrument_id = %(instrument)s
)
SELECT format('rows are stored that the ledger does not contain: %%s', s.ids - l.ids)
FROM stored s, ledger l WHERE NOT s.ids <@ l.ids
UNION ALL
SELECT format('the ledger counts %%s rows, its ids are %%s', l.rows, (SELECT sum(upper(r) - lower(r)) FROM unnest(l.ids) r))
FROM ledger l WHERE l.rows IS DISTINCT FROM (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(l.ids) r)
UNION ALL
SELECT format('the ledger contains ids that are not stored: %%s', missing)
FROM stored s, files f, dropped d, ledger l,
     LATERAL (SELECT CASE WHEN s.ids = '{}' THEN '{}'::int8multirange
                          ELSE l.ids * int8multirange(range_merge(s.ids)) - s.ids - f.ids - d.ids END AS missing) m
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

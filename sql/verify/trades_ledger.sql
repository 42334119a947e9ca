-- Rows and ledger must hold the same ids; what retention dropped is in the ledger alone, or in files of the archive, which
-- know how many rows they have and between which ids.
WITH stored AS (
    SELECT coalesce(range_agg(int8range(trade_id, trade_id + 1)), '{}') AS ids, count(*) AS rows
    FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
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

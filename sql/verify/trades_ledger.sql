-- Rows and ledger must hold the same ids; what retention dropped is in the ledger alone.
WITH stored AS (
    SELECT coalesce(range_agg(int8range(trade_id, trade_id + 1)), '{}') AS ids, count(*) AS rows
    FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
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
FROM stored s, ledger l,
     LATERAL (SELECT CASE WHEN s.ids = '{}' THEN '{}'::int8multirange
                          ELSE l.ids * int8multirange(range_merge(s.ids)) - s.ids END AS missing) m
WHERE missing <> '{}'
UNION ALL
SELECT format('the ledger contains %%s ids, %%s rows are stored', l.rows, s.rows)
FROM stored s, ledger l
WHERE l.dropped_before IS NULL AND %(from)s < '1980-01-01'::timestamptz AND %(to)s > '2100-01-01'::timestamptz
  AND s.rows <> l.rows

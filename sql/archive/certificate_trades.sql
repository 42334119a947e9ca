-- Between the id before a day's first trade and the id after its last: the ids that are neither stored nor explained, and
-- the number of explained ids by reason. No trade need follow if the venue confirmed after the day's end that there was
-- none. Of a day without trades `first` is the id after the last one before it, `last` the id before the first one after it.
WITH asked AS (
    SELECT c.ids AS stored,
           int8multirange(int8range(greatest(%(first)s - 1, 1),
               CASE WHEN h.settled_id <= %(last)s AND h.checked_at >= %(to)s THEN %(last)s ELSE %(last)s + 1 END, '[]')) AS ids
    FROM trade_coverage c LEFT JOIN trade_heads h USING (instrument_id) WHERE instrument_id = %(instrument)s
), explained AS (
    SELECT reason, (range_agg(int8range(first_id, last_id, '[]'))
                    * int8multirange(int8range(%(first)s, %(last)s + 1))) - (SELECT stored FROM asked) AS ids
    FROM holes WHERE instrument_id = %(instrument)s AND first_id <= %(last)s AND last_id >= %(first)s AND signed_at IS NOT NULL
    GROUP BY reason
), edges AS (
    SELECT coalesce(range_agg(int8range(first_id, last_id, '[]')), '{}') AS ids
    FROM holes WHERE instrument_id = %(instrument)s AND first_id <= %(last)s + 1 AND last_id >= %(first)s - 1
      AND signed_at IS NOT NULL
)
SELECT ARRAY(SELECT format('%%s to %%s', lower(r), upper(r) - 1) FROM unnest(a.ids - a.stored - e.ids) r LIMIT 20) AS missing,
       (SELECT jsonb_object_agg(reason, n) FROM (
            SELECT reason, (SELECT sum(upper(r) - lower(r))::bigint FROM unnest(ids) r) AS n FROM explained) s
        WHERE n > 0) AS explained
FROM asked a, edges e

-- Record a load's request for these ids. From now on none of them is too old: signatures that say so are revoked.
WITH asked AS (
    UPDATE trade_coverage SET asked = asked + int8multirange(int8range(%(first)s, %(last)s, '[]'))
    WHERE instrument_id = %(instrument)s
)
UPDATE holes SET signed_at = NULL
WHERE instrument_id = %(instrument)s AND reason = 'too_old' AND signed_at IS NOT NULL
  AND first_id <= %(last)s AND last_id >= %(first)s

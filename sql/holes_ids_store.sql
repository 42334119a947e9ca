-- Store the findings in messages about ids that a venue does not have. They are claims (signed_at NULL) until the
-- program that looked at the venue signs them. A claim covers nothing that is stored, and nothing above the newest
-- known id: returns the numbers of the findings that reach above it. The coverage rows must be locked.
WITH claim AS MATERIALIZED (
    SELECT f.*, coalesce(c.ids, '{}') AS ids, greatest(upper(c.ids) - 1, upper(c.asked) - 1, h.newest_id) AS newest_id
    FROM unnest(%(number)s::integer[], %(instrument)s::integer[], %(first)s::bigint[], %(last)s::bigint[], %(reason)s::text[],
                %(confirmed_us)s::bigint[]) AS f (number, instrument_id, first_id, last_id, reason, confirmed_us)
    LEFT JOIN trade_coverage c USING (instrument_id)
    LEFT JOIN trade_heads h USING (instrument_id)
), stored AS (
    INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at)
    SELECT DISTINCT ON (instrument_id, lower(piece), upper(piece), reason) instrument_id, lower(piece), upper(piece) - 1, reason,
           TIMESTAMPTZ 'epoch' + confirmed_us * INTERVAL '1 microsecond'
    FROM claim CROSS JOIN LATERAL unnest(int8multirange(int8range(first_id, last_id, '[]')) - ids) AS piece
    WHERE last_id <= newest_id
    ORDER BY instrument_id, lower(piece), upper(piece), reason, confirmed_us DESC
    ON CONFLICT (instrument_id, first_id, last_id, reason) WHERE first_id IS NOT NULL
    DO UPDATE SET confirmed_at = excluded.confirmed_at WHERE holes.signed_at IS NULL
)
SELECT number, newest_id FROM claim WHERE NOT coalesce(last_id <= newest_id, false) ORDER BY number

-- The ranges of ids that a load has to fetch, ascending: neither stored nor explained. `too_old` is no explanation for
-- a load, which wants its ids whatever their age.
SELECT lower(gap), upper(gap) - 1 FROM unnest(
    int8multirange(int8range(%(first)s, %(last)s, '[]'))
    - coalesce((SELECT ids FROM trade_coverage JOIN instruments i USING (instrument_id)
                WHERE i.venue = %(venue)s AND i.product_id = %(product)s), '{}')
    - coalesce((SELECT range_agg(int8range(h.first_id, h.last_id, '[]')) FROM holes h
                JOIN instruments i USING (instrument_id)
                WHERE i.venue = %(venue)s AND i.product_id = %(product)s
                  AND h.first_id IS NOT NULL AND h.signed_at IS NOT NULL AND h.reason <> 'too_old'), '{}')
) AS gap

-- The quorum of the latest run applies; a run with a single exchange only contributes to a consensus of several.
INSERT INTO consensus_quorum AS q (product_id, granularity_s, exchanges, required, as_of)
VALUES (%(product_id)s, %(granularity_s)s, %(exchanges)s, %(required)s,
        TIMESTAMPTZ 'epoch' + %(as_of_us)s * INTERVAL '1 microsecond')
ON CONFLICT (product_id, granularity_s) DO UPDATE SET
    exchanges = excluded.exchanges, required = excluded.required, as_of = excluded.as_of
WHERE excluded.as_of > q.as_of AND (cardinality(excluded.exchanges) > 1 OR cardinality(q.exchanges) = 1)
RETURNING consensus_id

-- What is to be proven: everything that the ledger counts, and every instrument of which ticks or candles are stored though
-- the ledger does not know it. An instrument is not forgotten because one of its tables is empty.
WITH stored AS (
    SELECT instrument_id, 'trades' AS kind FROM instruments i
    WHERE EXISTS (SELECT FROM trades t WHERE t.instrument_id = i.instrument_id)
       OR EXISTS (SELECT FROM trade_candle_1m c WHERE c.instrument_id = i.instrument_id)
       OR EXISTS (SELECT FROM trade_candle_1h c WHERE c.instrument_id = i.instrument_id)
    UNION ALL
    SELECT instrument_id, 'tickers' FROM instruments i
    WHERE EXISTS (SELECT FROM quotes q WHERE q.instrument_id = i.instrument_id)
       OR EXISTS (SELECT FROM quote_candle_1m c WHERE c.instrument_id = i.instrument_id)
       OR EXISTS (SELECT FROM quote_candle_1h c WHERE c.instrument_id = i.instrument_id)
    UNION ALL
    SELECT DISTINCT instrument_id, CASE kind WHEN 'trades' THEN kind ELSE 'tickers' END
    FROM archived WHERE kind IN ('trades', 'quotes')
), known AS (
    SELECT i.instrument_id, c.*, CASE c.kind WHEN 'trades' THEN 'trades' ELSE 'tickers' END AS stored_as
    FROM completeness c JOIN instruments i USING (venue, product_id)
)
SELECT i.instrument_id, i.venue, i.product_id, coalesce(k.kind, s.kind) AS kind, coalesce(k.rows, 0) AS rows, k.first_at,
       k.last_at, coalesce(k.explained, 0) AS explained, k.live, k.proven_until, k.explained_by,
       coalesce(k.proof, proof_of(s.kind, i.proof)) AS proof, k.missed,
       CASE WHEN i.dropped_before > %(from)s THEN i.dropped_before END AS dropped_before
FROM (SELECT DISTINCT * FROM stored) s
FULL JOIN known k ON k.instrument_id = s.instrument_id AND k.stored_as = s.kind
JOIN instruments i ON i.instrument_id = coalesce(k.instrument_id, s.instrument_id)
WHERE (%(venue)s::text IS NULL OR i.venue = %(venue)s) AND (%(product)s::text IS NULL OR i.product_id = %(product)s)
ORDER BY i.venue, i.product_id, 4

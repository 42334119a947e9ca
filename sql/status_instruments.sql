-- Per instrument and kind: what is stored and how fast it arrives (rows per second over the last five whole minutes).
WITH rates AS (
    SELECT instrument_id, 'trades' AS kind, sum(ticks) AS ticks FROM trade_candle_1m
    WHERE bucket >= date_trunc('minute', now()) - INTERVAL '5 minutes' AND bucket < date_trunc('minute', now()) GROUP BY 1
    UNION ALL
    SELECT instrument_id, 'quotes', sum(ticks) FROM quote_candle_1m
    WHERE bucket >= date_trunc('minute', now()) - INTERVAL '5 minutes' AND bucket < date_trunc('minute', now()) GROUP BY 1
)
SELECT c.venue, c.product_id, c.kind, c.rows::bigint, round(coalesce(r.ticks, 0) / 300.0, 3)::float8 AS rate_per_s,
       extract(epoch FROM c.last_age)::float8 AS age_s, c.missing::bigint, c.explained::bigint,
       c.share_complete::float8, c.first_at, c.last_at, c.live, c.proven_until, c.explained_by, c.proof,
       extract(epoch FROM c.missed)::float8 AS missed_s
FROM completeness c
JOIN instruments i USING (venue, product_id)
LEFT JOIN rates r ON r.instrument_id = i.instrument_id AND r.kind = CASE c.kind WHEN 'trades' THEN 'trades' ELSE 'quotes' END
ORDER BY c.venue, c.product_id, c.kind DESC

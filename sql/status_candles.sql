-- Candles of exchanges: how many are covered by answers and up to how long ago, the newest final one and how long ago
-- it closed. The latter means nothing while nobody trades, as on weekends.
SELECT i.venue, i.product_id, s.granularity_s,
       (SELECT sum(extract(epoch FROM upper(r) - lower(r)))::bigint FROM unnest(range_agg(s.covered)) r) / s.granularity_s
           AS covered,
       extract(epoch FROM now() - upper(range_agg(s.covered)))::float8 AS behind_s,
       newest.bucket AS newest_at, (extract(epoch FROM now() - newest.bucket) - s.granularity_s)::float8 AS age_s
FROM exchange_candle_state s
JOIN instruments i USING (instrument_id)
LEFT JOIN LATERAL (
    SELECT bucket FROM exchange_candles e
    WHERE e.instrument_id = s.instrument_id AND e.granularity_s = s.granularity_s AND e.final
    ORDER BY bucket DESC LIMIT 1
) newest ON true
GROUP BY i.venue, i.product_id, s.granularity_s, newest.bucket
ORDER BY i.product_id, i.venue, s.granularity_s

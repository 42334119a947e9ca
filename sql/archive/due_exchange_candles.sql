-- Past months with candles that are in no file yet or changed since, and whether all candles are final.
WITH spans AS (
    SELECT instrument_id, min(bucket) AS first, max(bucket) AS last FROM exchange_candles GROUP BY 1
), months AS (
    SELECT instrument_id, month FROM spans
    CROSS JOIN LATERAL generate_series(date_trunc('month', first, 'UTC'), last, INTERVAL '1 month') AS month
    WHERE month + INTERVAL '1 month' <= %(before)s
)
SELECT m.instrument_id, i.venue, i.product_id, m.month AS day, 0::bigint AS rows, s.from_ts AS span_from,
       s.to_ts AS span_to, s.archived_changes IS NOT NULL AS archived,
       NOT EXISTS (SELECT FROM exchange_candles c WHERE c.instrument_id = m.instrument_id AND c.bucket >= m.month
                     AND c.bucket < m.month + INTERVAL '1 month' AND NOT c.final) AS complete
FROM months m
JOIN instruments i USING (instrument_id)
LEFT JOIN archive_spans s ON s.instrument_id = m.instrument_id AND s.kind = 'exchange_candles' AND s.from_ts <= m.month AND s.to_ts > m.month
WHERE EXISTS (SELECT FROM exchange_candles c WHERE c.instrument_id = m.instrument_id AND c.bucket >= m.month
                AND c.bucket < m.month + INTERVAL '1 month')
  AND (s.archived_changes IS DISTINCT FROM s.changes OR s.changes IS NULL)
ORDER BY m.month, m.instrument_id

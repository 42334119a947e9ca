-- Store the staged candles that outrank the stored ones: final before running, then the later as_of; the values break
-- a tie, so that the result does not depend on the order of the messages. New final candles are left in
-- touched_consensus. The products are locked, so nothing changes between the look and the insert.
-- LATERAL with LIMIT makes the planner use the index, whatever it believes about the table's size.
WITH best AS MATERIALIZED (
    SELECT DISTINCT ON (instrument_id, granularity_s, bucket)
           instrument_id, granularity_s, bucket, open, high, low, close, volume, final = 1 AS final, as_of
    FROM staged_candles
    ORDER BY instrument_id, granularity_s, bucket, final DESC, as_of DESC, volume DESC, open DESC, high DESC, low DESC,
             close DESC
), fresh AS MATERIALIZED (
    SELECT s.*, (s.final, s.open, s.high, s.low, s.close, s.volume)
                IS DISTINCT FROM (e.final, e.open, e.high, e.low, e.close, e.volume) AS news
    FROM best s
    LEFT JOIN LATERAL (
        SELECT e.* FROM exchange_candles e
        WHERE e.instrument_id = s.instrument_id AND e.granularity_s = s.granularity_s AND e.bucket = s.bucket LIMIT 1
    ) e ON true
    WHERE e.instrument_id IS NULL
       OR (s.final, s.as_of, s.volume, s.open, s.high, s.low, s.close)
        > (e.final, e.as_of, e.volume, e.open, e.high, e.low, e.close)
), stored AS (
    INSERT INTO exchange_candles (instrument_id, granularity_s, bucket, open, high, low, close, volume, final, as_of)
    SELECT instrument_id, granularity_s, bucket, open, high, low, close, volume, final, as_of FROM fresh
    ON CONFLICT (instrument_id, granularity_s, bucket) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, final = excluded.final, as_of = excluded.as_of
    RETURNING 1
), touched AS (
    INSERT INTO touched_consensus (consensus_id, bucket)
    SELECT q.consensus_id, f.bucket
    FROM fresh f
    JOIN instruments i USING (instrument_id)
    JOIN consensus_quorum q ON q.product_id = i.product_id AND q.granularity_s = f.granularity_s
    WHERE f.news AND f.final AND i.venue = ANY (q.exchanges)
), days AS (
    SELECT DISTINCT instrument_id, 'exchange_candles' AS kind, time_bucket('1 day', bucket) AS day FROM fresh
),
-- include: parts/count_changes
SELECT count(*) FILTER (WHERE news), count(*), (SELECT count(*) FROM stored) FROM fresh

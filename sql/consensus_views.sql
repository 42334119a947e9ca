-- The consensus as people read it, in every time frame. Each candle is rolled up from the granularity whose consensus covers most
-- of its time, the finest of several that cover as much: two back-filled minutes are not the hour that exchanges told themselves.
-- Open and close are those of the first and last one inside, `candles` says of how many.
DO $views$
DECLARE
    frame record;
BEGIN
    FOR frame IN
        SELECT * FROM (VALUES
            ('1m', '1 minute', 60, ''), ('5m', '5 minutes', 300, ''), ('15m', '15 minutes', 900, ''),
            ('30m', '30 minutes', 1800, ''), ('1h', '1 hour', 3600, '_1h'), ('4h', '4 hours', 14400, '_1h'),
            ('12h', '12 hours', 43200, '_1h'), ('1d', '1 day', 86400, '_1h')
        ) AS t (name, width, seconds, source)
    LOOP
        EXECUTE format($sql$
            CREATE OR REPLACE VIEW consensus_candles_%1$s AS
            SELECT DISTINCT ON (q.product_id, c.bucket)
                   q.product_id, c.bucket, c.open, c.high, c.low, c.close, c.volume,
                   consensus_names(c.taken, q.exchanges) AS exchanges, q.required, c.dispersion,
                   consensus_names(c.left_out, q.exchanges) AS left_out,
                   consensus_names(c.from_trades, q.exchanges) AS from_trades, c.revision, c.candles
            FROM (
                SELECT consensus_id, time_bucket(%2$L::interval, bucket) AS bucket,
                       first(open, bucket) AS open, max(high) AS high, min(low) AS low, last(close, bucket) AS close,
                       sum(volume) AS volume, max(dispersion) AS dispersion, bit_or(taken) AS taken,
                       bit_or(left_out) AS left_out, bit_or(from_trades) AS from_trades,
                       sum(revision)::integer AS revision, sum(candles)::integer AS candles
                FROM consensus_met%4$s
                GROUP BY consensus_id, time_bucket(%2$L::interval, bucket)
            ) c JOIN consensus_quorum q USING (consensus_id)
            WHERE %3$s %% q.granularity_s = 0
            ORDER BY q.product_id, c.bucket, c.candles * q.granularity_s DESC, q.granularity_s
        $sql$, frame.name, frame.width, frame.seconds, frame.source);
    END LOOP;
END
$views$;

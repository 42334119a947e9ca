-- Hours of the ledger against the rows, and hours inside the span that nobody accounts for. Tickers have no hours.
WITH hours AS (
    SELECT h.* FROM quote_hours h JOIN instruments i USING (instrument_id)
    WHERE instrument_id = %(instrument)s AND hour >= %(from)s AND hour < %(to)s
      AND (i.dropped_before IS NULL OR hour >= i.dropped_before)
), counted AS (
    SELECT time_bucket('1 hour', ts) AS hour, count(*) AS rows FROM quotes
    WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s GROUP BY 1
)
SELECT format('hour %%s: the ledger counts %%s quotes, %%s are stored', hour, coalesce(h.ticks, 0), coalesce(c.rows, 0))
FROM hours h FULL JOIN counted c USING (hour)
WHERE coalesce(h.ticks, 0) <> coalesce(c.rows, 0)
  AND EXISTS (SELECT FROM quote_hours x WHERE x.instrument_id = %(instrument)s)
UNION ALL
SELECT format('%%s hours between %%s and %%s are neither stored nor explained', missing, lo, hi)
FROM (
    SELECT min(hour) AS lo, max(hour) AS hi,
           extract(epoch FROM max(hour) - min(hour))::bigint / 3600 + 1
             - count(*) FILTER (WHERE state <> 'seen_empty') AS missing
    FROM hours
) m WHERE missing > 0
LIMIT 20

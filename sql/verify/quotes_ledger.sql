-- Hours of the ledger against the rows, and hours that were asked for and that nobody accounts for. Tickers have no hours.
WITH in_files AS MATERIALIZED (  -- of which the table has at most what came later
    SELECT from_ts, to_ts FROM archive_only WHERE instrument_id = %(instrument)s AND kind = 'quotes'
), hours AS (
    SELECT h.* FROM quote_hours h JOIN instruments i USING (instrument_id)
    WHERE instrument_id = %(instrument)s AND hour >= %(from)s AND hour < %(to)s
      AND (i.dropped_before IS NULL OR hour >= i.dropped_before)
      AND NOT EXISTS (SELECT FROM in_files f WHERE hour >= f.from_ts AND hour < f.to_ts)
), counted AS (
    SELECT time_bucket('1 hour', ts) AS hour, count(*) AS rows FROM quotes
    WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
      AND NOT EXISTS (SELECT FROM in_files f WHERE ts >= f.from_ts AND ts < f.to_ts)
    GROUP BY 1
)
SELECT format('hour %%s: the ledger counts %%s quotes, %%s are stored', hour, coalesce(h.ticks, 0), coalesce(c.rows, 0))
FROM hours h FULL JOIN counted c USING (hour)
WHERE coalesce(h.ticks, 0) <> coalesce(c.rows, 0)
  AND EXISTS (SELECT FROM quote_hours x WHERE x.instrument_id = %(instrument)s)
UNION ALL
SELECT format('%%s hours between %%s and %%s were asked for and are neither stored nor explained', missing, lo, hi)
FROM (
    SELECT count(*) AS missing, min(hour) AS lo, max(hour) AS hi
    FROM quote_asked a
    CROSS JOIN LATERAL unnest(a.hours * tstzmultirange(tstzrange(%(from)s, %(to)s))) AS span
    CROSS JOIN LATERAL generate_series(lower(span), upper(span) - INTERVAL '1 hour', INTERVAL '1 hour') AS hour
    WHERE a.instrument_id = %(instrument)s AND NOT EXISTS (
        SELECT FROM quote_hours q WHERE q.instrument_id = a.instrument_id AND q.hour = hour.hour AND q.state <> 'seen_empty'
          AND (q.state <> 'partial' OR q.hour > now() - INTERVAL '3 hours'))
) m WHERE missing > 0
LIMIT 20

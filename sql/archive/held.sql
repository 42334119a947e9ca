-- What retention must not drop: hours with rows (known from the candles, which are stored in the rows' transaction) of days
-- that are in no span, and spans that changed since they were archived, are pinned, or reach into the time to keep.
SELECT i.venue, i.product_id, min(h.day) AS day, 'not archived' AS why
FROM (
    SELECT DISTINCT instrument_id, time_bucket('1 day', bucket) AS day FROM {candles}
    WHERE bucket >= %(from)s AND bucket < %(to)s
) h
JOIN instruments i USING (instrument_id)
WHERE NOT EXISTS (SELECT FROM archive_spans s WHERE s.instrument_id = h.instrument_id AND s.kind = %(kind)s
                    AND s.from_ts <= h.day AND s.to_ts > h.day)
GROUP BY 1, 2
UNION ALL
SELECT i.venue, i.product_id, min(s.from_ts),
       CASE WHEN s.archived_changes IS NULL THEN 'not archived' WHEN s.archived_changes < s.changes THEN 'changed since'
            WHEN s.pinned_until > now() THEN 'restored and pinned' ELSE 'part of a longer file' END
FROM archive_spans s
JOIN instruments i USING (instrument_id)
WHERE s.kind = %(kind)s AND s.from_ts < %(to)s AND s.to_ts > %(from)s
  AND (s.archived_changes IS DISTINCT FROM s.changes OR s.pinned_until > now() OR s.to_ts > %(horizon)s)
GROUP BY 1, 2, 4
ORDER BY 3, 1, 2

-- For both candle widths, the range of buckets that lie wholly within the span.
widths AS (
    SELECT width, time_bucket(width, %(from)s::timestamptz + width - INTERVAL '1 microsecond') AS lo,
           time_bucket(width, %(to)s::timestamptz) AS hi
    FROM (VALUES (INTERVAL '1 minute'), (INTERVAL '1 hour')) AS v (width)
)

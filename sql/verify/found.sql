-- Whether anything is known of the span: candles, files, hours or windows that the ledger accounts for. For trades
-- proven by ids also that nothing lies between two neighbours, or that the venue has shown nothing newer.
SELECT EXISTS (SELECT FROM archived a WHERE a.instrument_id = %(instrument)s AND a.kind = %(kind)s
               AND a.from_ts < %(to)s AND a.to_ts > %(from)s)
    OR CASE %(kind)s WHEN 'trades' THEN
        EXISTS (SELECT FROM trade_candle_1m c WHERE c.instrument_id = %(instrument)s
                AND c.bucket < %(to)s AND c.bucket > %(from)s::timestamptz - INTERVAL '1 minute')
        OR EXISTS (SELECT FROM trade_candle_1h c WHERE c.instrument_id = %(instrument)s
                   AND c.bucket < %(to)s AND c.bucket > %(from)s::timestamptz - INTERVAL '1 hour')
        OR EXISTS (SELECT FROM trade_windows w WHERE w.instrument_id = %(instrument)s
                   AND w.proven && tstzrange(%(from)s, %(to)s))
        OR EXISTS (
            SELECT FROM trade_asked a
            CROSS JOIN LATERAL (SELECT t.trade_id FROM trades t WHERE t.instrument_id = a.instrument_id AND t.ts < %(from)s
                                ORDER BY t.ts DESC LIMIT 1) low
            LEFT JOIN LATERAL (SELECT t.trade_id FROM trades t WHERE t.instrument_id = a.instrument_id AND t.ts >= %(to)s
                               ORDER BY t.ts LIMIT 1) high ON true
            JOIN instruments i ON i.instrument_id = a.instrument_id AND i.proof = 'contiguous ids'
            WHERE a.instrument_id = %(instrument)s
              AND CASE WHEN high IS NULL THEN a.live AND a.checked_at > %(from)s
                       ELSE int8range(least(low.trade_id, high.trade_id), high.trade_id, '[]') <@ a.ids END)
    ELSE
        EXISTS (SELECT FROM quote_candle_1m c WHERE c.instrument_id = %(instrument)s
                AND c.bucket < %(to)s AND c.bucket > %(from)s::timestamptz - INTERVAL '1 minute')
        OR EXISTS (SELECT FROM quote_candle_1h c WHERE c.instrument_id = %(instrument)s
                   AND c.bucket < %(to)s AND c.bucket > %(from)s::timestamptz - INTERVAL '1 hour')
        OR EXISTS (SELECT FROM quote_hours h WHERE h.instrument_id = %(instrument)s AND h.state <> 'seen_empty'
                   AND h.hour < %(to)s AND h.hour > %(from)s::timestamptz - INTERVAL '1 hour')
    END

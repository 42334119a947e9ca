-- Record that the vendor was asked for an hour of quotes and has none. `sure`: no second look is needed.
INSERT INTO quote_looks (instrument_id, hour, first_at, last_at, sure) VALUES (%s, %s, now(), now(), %s)
ON CONFLICT (instrument_id, hour) DO UPDATE SET last_at = now(), sure = quote_looks.sure OR excluded.sure

INSERT INTO live_delays AS d (instrument_id, day, up_to_ms, trades)
SELECT * FROM unnest(%(instrument)s::integer[], %(day)s::date[], %(up_to_ms)s::integer[], %(trades)s::bigint[])
ON CONFLICT (instrument_id, day, up_to_ms) DO UPDATE SET trades = d.trades + excluded.trades

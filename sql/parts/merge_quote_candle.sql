-- Merge quotes into a stored candle `c`. Open and close belong to the least and the greatest (ts, seq).
open = CASE WHEN (excluded.first_ts, excluded.first_seq) < (c.first_ts, c.first_seq) THEN excluded.open ELSE c.open END,
ask_open = CASE WHEN (excluded.first_ts, excluded.first_seq) < (c.first_ts, c.first_seq) THEN excluded.ask_open ELSE c.ask_open END,
first_seq = CASE WHEN (excluded.first_ts, excluded.first_seq) < (c.first_ts, c.first_seq) THEN excluded.first_seq ELSE c.first_seq END,
first_ts = least(c.first_ts, excluded.first_ts),
close = CASE WHEN (excluded.last_ts, excluded.last_seq) > (c.last_ts, c.last_seq) THEN excluded.close ELSE c.close END,
ask_close = CASE WHEN (excluded.last_ts, excluded.last_seq) > (c.last_ts, c.last_seq) THEN excluded.ask_close ELSE c.ask_close END,
last_seq = CASE WHEN (excluded.last_ts, excluded.last_seq) > (c.last_ts, c.last_seq) THEN excluded.last_seq ELSE c.last_seq END,
last_ts = greatest(c.last_ts, excluded.last_ts),
high = greatest(c.high, excluded.high), low = least(c.low, excluded.low),
ask_high = greatest(c.ask_high, excluded.ask_high), ask_low = least(c.ask_low, excluded.ask_low),
bid_size = c.bid_size + excluded.bid_size, ask_size = c.ask_size + excluded.ask_size,
spread_sum = c.spread_sum + excluded.spread_sum, ticks = c.ticks + excluded.ticks

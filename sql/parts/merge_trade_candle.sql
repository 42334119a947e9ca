-- Merge trades into a stored candle `c`. Open and close belong to the least and the greatest id.
open = CASE WHEN excluded.first_id < c.first_id THEN excluded.open ELSE c.open END,
close = CASE WHEN excluded.last_id > c.last_id THEN excluded.close ELSE c.close END,
high = greatest(c.high, excluded.high), low = least(c.low, excluded.low),
volume = c.volume + excluded.volume, turnover = c.turnover + excluded.turnover, ticks = c.ticks + excluded.ticks,
first_id = least(c.first_id, excluded.first_id), last_id = greatest(c.last_id, excluded.last_id)

-- Of how many of our own trades a consensus was made: it is made again when there are more. NULL: made before they were counted;
-- to make years of them again at once would keep the writer of candles waiting for minutes.
ALTER TABLE consensus_candle ADD COLUMN trades bigint;

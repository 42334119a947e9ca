-- Of how many of our own trades a consensus was made: it is made again when there are more. NULL: made before they were counted,
-- it is made again in the background.
ALTER TABLE consensus_candle ADD COLUMN trades bigint;

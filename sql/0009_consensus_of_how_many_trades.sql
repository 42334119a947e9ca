-- Of how many of our own trades a consensus was made: it is made again when there are more. 0 until the next sweep.
ALTER TABLE consensus_candle ADD COLUMN trades bigint NOT NULL DEFAULT 0;

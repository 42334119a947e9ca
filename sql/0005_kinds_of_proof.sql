-- How it is shown that nothing of an instrument is missing: what the programs know of its venue (venues.adapter.Proof), never
-- what a message says. NULL: nobody knows, so nothing of it is ever called complete.
ALTER TABLE instruments
    ADD COLUMN proof text CONSTRAINT instruments_proof
        CHECK (proof IN ('contiguous ids', 'sequence per connection', 'time windows', 'hours', 'sampled'));
UPDATE instruments SET proof = 'contiguous ids' WHERE venue IN ('kraken', 'coinbase');
UPDATE instruments SET proof = 'hours' WHERE venue = 'dukascopy';

-- Trades that are proven by time, not by their ids. Written by whoever compares the stream with the venue, or follows its
-- numbers, when what lies in that time is stored: never on a message's word.
CREATE TABLE trade_windows (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    asked     tstzmultirange NOT NULL DEFAULT '{}',  -- what loads were told to bring
    live_from timestamptz,                           -- beginning of the live stream; NULL: not streamed
    proven    tstzmultirange NOT NULL DEFAULT '{}'
);

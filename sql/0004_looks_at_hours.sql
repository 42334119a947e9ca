-- A finding that comes in a message is a claim. An hour of quotes is final as empty only when whoever asked the vendor has
-- seen it so, which the loader itself writes here, before it publishes its finding.
CREATE TABLE quote_looks (
    instrument_id integer     NOT NULL REFERENCES instruments,
    hour          timestamptz NOT NULL CHECK (extract(epoch FROM hour)::bigint % 3600 = 0),
    first_at      timestamptz NOT NULL,  -- by the database's clock, as last_at
    last_at       timestamptz NOT NULL,
    sure          boolean     NOT NULL DEFAULT false,  -- one look is enough: a file of zero length in a folder
    PRIMARY KEY (instrument_id, hour)
);

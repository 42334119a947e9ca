-- Stands in for the ledger's own 0003 until that is merged; then this file goes.
ALTER TABLE holes ADD COLUMN signed_at timestamptz;
CREATE TABLE trade_heads (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    seen_at       timestamptz NOT NULL,
    newest_id     bigint NOT NULL,
    witness       text NOT NULL
);

-- Instruments, ticks, and the candles and ledgers that are kept in the tick's own transaction.

CREATE TABLE instruments (
    instrument_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue         text NOT NULL,
    product_id    text NOT NULL,  -- canonical: BTC-USD
    asset_class   text NOT NULL,
    price_scale   smallint,       -- decimals of the prices, where the feed sends integers
    dropped_before timestamptz,   -- retention dropped the ticks before this moment; the ledger still accounts for them
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (venue, product_id)
);

CREATE TYPE taker_side AS ENUM ('buy', 'sell', 'unknown');
CREATE TYPE origin AS ENUM ('live', 'snapshot', 'history', 'repair');

-- A trade is the same trade by (instrument_id, trade_id) alone; that is decided by trade_coverage. ts is in the index
-- only because a hypertable demands its partitioning column in every unique index.
CREATE TABLE trades (
    instrument_id integer     NOT NULL,
    trade_id      bigint      NOT NULL,
    ts            timestamptz NOT NULL,
    price         numeric     NOT NULL,
    quantity      numeric     NOT NULL,
    taker_side    taker_side  NOT NULL,
    origin        origin      NOT NULL
);
SELECT create_hypertable('trades', by_range('ts', INTERVAL '7 days'), create_default_indexes => false);
CREATE UNIQUE INDEX trades_key ON trades (instrument_id, trade_id, ts);
CREATE INDEX trades_time ON trades (instrument_id, ts DESC);

CREATE TABLE quotes (
    instrument_id integer     NOT NULL,
    ts            timestamptz NOT NULL,
    seq           integer     NOT NULL,  -- numbers the quotes of one instant, from 0
    bid           numeric     NOT NULL,
    ask           numeric     NOT NULL,
    bid_size      numeric     NOT NULL,  -- units of the base
    ask_size      numeric     NOT NULL
);
SELECT create_hypertable('quotes', by_range('ts', INTERVAL '7 days'), create_default_indexes => false);
CREATE UNIQUE INDEX quotes_key ON quotes (instrument_id, ts, seq);

-- Candles hold the keys of their first and last tick, so that a late tick finds its place.
CREATE TABLE trade_candle_1m (
    instrument_id integer     NOT NULL,
    bucket        timestamptz NOT NULL,
    open          numeric     NOT NULL,
    high          numeric     NOT NULL,
    low           numeric     NOT NULL,
    close         numeric     NOT NULL,
    volume        numeric     NOT NULL,
    turnover      numeric     NOT NULL,  -- sum of price x quantity; vwap = turnover / volume
    ticks         bigint      NOT NULL,
    first_id      bigint      NOT NULL,
    last_id       bigint      NOT NULL
);
CREATE TABLE trade_candle_1h (LIKE trade_candle_1m INCLUDING ALL);

CREATE TABLE quote_candle_1m (
    instrument_id integer     NOT NULL,
    bucket        timestamptz NOT NULL,
    open          numeric     NOT NULL,  -- of the bid
    high          numeric     NOT NULL,
    low           numeric     NOT NULL,
    close         numeric     NOT NULL,
    ask_open      numeric     NOT NULL,
    ask_high      numeric     NOT NULL,
    ask_low       numeric     NOT NULL,
    ask_close     numeric     NOT NULL,
    bid_size      numeric     NOT NULL,  -- sums
    ask_size      numeric     NOT NULL,
    spread_sum    numeric     NOT NULL,  -- mean spread = spread_sum / ticks
    ticks         bigint      NOT NULL,
    first_ts      timestamptz NOT NULL,
    first_seq     integer     NOT NULL,
    last_ts       timestamptz NOT NULL,
    last_seq      integer     NOT NULL
);
CREATE TABLE quote_candle_1h (LIKE quote_candle_1m INCLUDING ALL);

SELECT create_hypertable(name, by_range('bucket', INTERVAL '1 year'), create_default_indexes => false)
FROM unnest(ARRAY['trade_candle_1m', 'trade_candle_1h', 'quote_candle_1m', 'quote_candle_1h']::regclass[]) AS name;
CREATE UNIQUE INDEX trade_candle_1m_key ON trade_candle_1m (instrument_id, bucket);
CREATE UNIQUE INDEX trade_candle_1h_key ON trade_candle_1h (instrument_id, bucket);
CREATE UNIQUE INDEX quote_candle_1m_key ON quote_candle_1m (instrument_id, bucket);
CREATE UNIQUE INDEX quote_candle_1h_key ON quote_candle_1h (instrument_id, bucket);

-- The ledger of trades: the ids that are stored (or were, before retention dropped them).
CREATE TABLE trade_coverage (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    ids           int8multirange NOT NULL DEFAULT '{}',
    rows          bigint NOT NULL DEFAULT 0,  -- counted as they were inserted; must equal the ids
    last_ts       timestamptz,                -- newest trade by the venue's clock
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- The ledger of quotes by the hour.
CREATE TYPE hour_state AS ENUM ('present', 'partial', 'seen_empty', 'confirmed_empty', 'closed');
CREATE TABLE quote_hours (
    instrument_id integer     NOT NULL REFERENCES instruments,
    hour          timestamptz NOT NULL,
    state         hour_state  NOT NULL,
    ticks         integer     NOT NULL,
    feed          text        NOT NULL,
    fetched_at    timestamptz NOT NULL,
    checksum      bigint      NOT NULL,
    revision      integer     NOT NULL DEFAULT 0,
    stored_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, hour)
);

-- What is explained: ids or hours that the venue does not have, rows that were rejected, time nobody listened.
CREATE TABLE holes (
    instrument_id integer NOT NULL REFERENCES instruments,
    first_id      bigint,
    last_id       bigint,       -- inclusive
    from_ts       timestamptz,  -- hours and missed ticker time
    to_ts         timestamptz,  -- excluded
    reason        text NOT NULL,  -- venue_has_none, too_old, rejected, not_listening
    confirmed_at  timestamptz NOT NULL,
    CHECK ((first_id IS NULL) = (last_id IS NULL) AND (from_ts IS NULL) = (to_ts IS NULL)),
    CHECK ((first_id IS NULL) <> (from_ts IS NULL)),
    CHECK (first_id <= last_id AND from_ts <= to_ts)
);
CREATE UNIQUE INDEX holes_ids ON holes (instrument_id, first_id, last_id) WHERE first_id IS NOT NULL;
CREATE UNIQUE INDEX holes_time ON holes (instrument_id, from_ts, to_ts) WHERE from_ts IS NOT NULL;

-- Ids inside the stored span that are neither stored nor explained.
CREATE VIEW trade_gaps AS
SELECT i.instrument_id, i.venue, i.product_id, lower(gap) AS first_id, upper(gap) - 1 AS last_id,
       upper(gap) - lower(gap) AS missing
FROM instruments i
JOIN trade_coverage c USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT coalesce(range_agg(int8range(first_id, last_id + 1)), '{}') AS ids
    FROM holes h WHERE h.instrument_id = i.instrument_id AND h.first_id IS NOT NULL
) explained
CROSS JOIN LATERAL unnest(int8multirange(range_merge(c.ids)) - c.ids - explained.ids) AS gap
WHERE NOT isempty(c.ids);

CREATE TABLE watchlist (
    symbol   text PRIMARY KEY,  -- BTC/USD
    added_at timestamptz NOT NULL DEFAULT now()
);

-- Candles that the exchanges made themselves, how far each was asked, and the consensus of several exchanges.

CREATE TABLE exchange_candles (
    instrument_id integer     NOT NULL,  -- exchange and product
    granularity_s integer     NOT NULL,
    bucket        timestamptz NOT NULL,
    open          numeric     NOT NULL,
    high          numeric     NOT NULL,
    low           numeric     NOT NULL,
    close         numeric     NOT NULL,
    volume        numeric     NOT NULL,
    final         boolean     NOT NULL,  -- false: was still running
    as_of         timestamptz NOT NULL   -- when the exchange said so
);

-- State of the back-fill and the catch-up by symbol (`BTC-USD-backfill`, `BTC-USD-catch_up`) and exchange. What is
-- covered was asked and answered, and every candle of the answer is stored; it changes with those candles only.
CREATE TABLE exchange_candle_state (
    state         text           NOT NULL,
    instrument_id integer        NOT NULL REFERENCES instruments,
    granularity_s integer        NOT NULL,
    covered       tstzmultirange NOT NULL,
    updated_at    timestamptz    NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, granularity_s, state)
);

-- What was asked of the consensus. The bits of the masks below are positions in `exchanges`, the first is 1.
CREATE TABLE consensus_quorum (
    consensus_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id    text        NOT NULL,
    granularity_s integer     NOT NULL,
    exchanges     text[]      NOT NULL,
    required      integer     NOT NULL,
    as_of         timestamptz NOT NULL,
    UNIQUE (product_id, granularity_s),
    CHECK (cardinality(exchanges) BETWEEN 1 AND 63 AND required BETWEEN 1 AND cardinality(exchanges))
);

-- One row per bucket of which any exchange has a final candle; a consensus only where `takers` >= the number required.
CREATE TABLE consensus_candle (
    consensus_id integer     NOT NULL,
    bucket       timestamptz NOT NULL,
    open         numeric,               -- NULL: every exchange was left out
    high         numeric,
    low          numeric,
    close        numeric,
    volume       numeric     NOT NULL,  -- of those taken
    dispersion   numeric,               -- highest less lowest close of those taken, as a share of the consensus close
    taken        bigint      NOT NULL,
    takers       smallint    NOT NULL,
    left_out     bigint      NOT NULL,  -- far off the others
    from_trades  bigint      NOT NULL,  -- by our own trades, not by the exchange's candle
    met          boolean     NOT NULL,  -- the quorum has been met before
    revision     integer     NOT NULL   -- how often it changed since it was first met
);

-- Hours of what is finer than an hour, of those buckets that meet the quorum: a year of minutes costs 8,760 rows.
CREATE TABLE consensus_candle_1h (
    consensus_id integer     NOT NULL,
    bucket       timestamptz NOT NULL,
    open         numeric     NOT NULL,
    high         numeric     NOT NULL,
    low          numeric     NOT NULL,
    close        numeric     NOT NULL,
    volume       numeric     NOT NULL,
    dispersion   numeric     NOT NULL,  -- the greatest inside
    taken        bigint      NOT NULL,  -- any time inside
    left_out     bigint      NOT NULL,
    from_trades  bigint      NOT NULL,
    revision     integer     NOT NULL,  -- sum
    candles      integer     NOT NULL   -- of how many
);

SELECT create_hypertable(name, by_range('bucket', INTERVAL '1 year'), create_default_indexes => false)
FROM unnest(ARRAY['exchange_candles', 'consensus_candle', 'consensus_candle_1h']::regclass[]) AS name;
CREATE UNIQUE INDEX exchange_candles_key ON exchange_candles (instrument_id, granularity_s, bucket);
CREATE UNIQUE INDEX consensus_candle_key ON consensus_candle (consensus_id, bucket);
CREATE UNIQUE INDEX consensus_candle_1h_key ON consensus_candle_1h (consensus_id, bucket);

-- The middle value, of an even number the mean of the two in the middle; exact (percentile_cont computes in floats).
CREATE FUNCTION consensus_middle(numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT avg(x) FROM (
        SELECT x FROM unnest($1) AS x ORDER BY x
        OFFSET (cardinality($1) - 1) / 2 LIMIT 2 - cardinality($1) % 2
    ) AS middle
$$;
CREATE AGGREGATE consensus_median (numeric) (
    SFUNC = array_append, STYPE = numeric[], INITCOND = '{}', FINALFUNC = consensus_middle
);

-- numerator / denominator rounded half up to a multiple of `unit` (0.01), without an intermediate rounding.
CREATE FUNCTION consensus_quotient(numerator numeric, denominator numeric, unit numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT div(2 * numerator + denominator * unit, 2 * denominator * unit) * unit
$$;

CREATE FUNCTION consensus_names(mask bigint, exchanges text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(name ORDER BY position), '{}')
    FROM unnest(exchanges) WITH ORDINALITY AS e (name, position)
    WHERE mask & (1::bigint << (position - 1)::integer) <> 0
$$;

-- What the views that people read (consensus_views.sql) are rolled up from.
CREATE VIEW consensus_met AS
SELECT c.consensus_id, c.bucket, c.open, c.high, c.low, c.close, c.volume, c.dispersion, c.taken, c.left_out, c.from_trades,
       c.revision, 1 AS candles
FROM consensus_candle c JOIN consensus_quorum q USING (consensus_id)
WHERE c.takers >= q.required;

CREATE VIEW consensus_met_1h AS
SELECT * FROM consensus_candle_1h
UNION ALL
SELECT c.* FROM consensus_met c JOIN consensus_quorum q USING (consensus_id) WHERE q.granularity_s >= 3600;

-- Buckets without a consensus, and who is missing.
CREATE VIEW consensus_missing AS
SELECT q.product_id, q.granularity_s, c.bucket, q.required, consensus_names(c.taken, q.exchanges) AS present,
       consensus_names(~(c.taken | c.left_out), q.exchanges) AS missing, consensus_names(c.left_out, q.exchanges) AS left_out
FROM consensus_candle c JOIN consensus_quorum q USING (consensus_id)
WHERE c.takers < q.required;

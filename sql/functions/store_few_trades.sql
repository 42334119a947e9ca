-- Store a batch of a few trades with candles and ledger in one call. Returns their number, or 0 if nothing was stored,
-- because the ledger contains one of them or an instrument's id belongs to another one. Does the same as
-- trades_lock.sql and trades_store.sql, which take a program five round trips, each costing both sides 0.1 ms.
--
-- `which`, `venues` and `products` are the instruments' ids and names. The other arrays have one element per trade:
-- `us` are microseconds since 1970, `delays` the step in `live_delays` (NULL: not live).
DROP FUNCTION IF EXISTS store_few_trades;
CREATE FUNCTION store_few_trades(
    which integer[], venues text[], products text[], instrument integer[], id bigint[], us bigint[], prices numeric[],
    quantities numeric[], sides taker_side[], origins origin[], delays integer[]
) RETURNS bigint LANGUAGE plpgsql AS $few$
DECLARE
    number bigint;
BEGIN
    PERFORM FROM trade_coverage c
    JOIN instruments i USING (instrument_id)
    JOIN unnest(which, venues, products) AS w (instrument_id, venue, product_id)
      ON w.instrument_id = i.instrument_id AND w.venue = i.venue AND w.product_id = i.product_id
    ORDER BY c.instrument_id FOR UPDATE OF c;
    GET DIAGNOSTICS number = ROW_COUNT;
    IF number <> cardinality(which) THEN
        RETURN 0;
    END IF;
    -- Each statement from here on sees what was committed before we got the lock.
    PERFORM FROM unnest(instrument, id) AS g (instrument_id, trade_id)
    JOIN trade_coverage c USING (instrument_id) WHERE c.ids @> g.trade_id;
    IF found THEN
        RETURN 0;
    END IF;
    INSERT INTO trades (instrument_id, trade_id, ts, price, quantity, taker_side, origin)
    SELECT instrument_id, trade_id, TIMESTAMPTZ 'epoch' + at_us * INTERVAL '1 microsecond', price, quantity, taker_side, origin
    FROM unnest(instrument, id, us, prices, quantities, sides, origins)
        AS g (instrument_id, trade_id, at_us, price, quantity, taker_side, origin);
    GET DIAGNOSTICS number = ROW_COUNT;
    IF number <> cardinality(id) THEN  -- the ledger must not account for what is nowhere
        RAISE EXCEPTION 'the table took % of % rows: a trigger leaves some out', number, cardinality(id);
    END IF;
    WITH given AS MATERIALIZED (
        SELECT instrument_id, trade_id, TIMESTAMPTZ 'epoch' + at_us * INTERVAL '1 microsecond' AS ts, price, quantity,
               taker_side, origin, up_to_ms
        FROM unnest(instrument, id, us, prices, quantities, sides, origins, delays)
            AS g (instrument_id, trade_id, at_us, price, quantity, taker_side, origin, up_to_ms)
    ), minutes AS MATERIALIZED (
        SELECT instrument_id, time_bucket('1 minute', ts) AS bucket, first(price, trade_id) AS open, max(price) AS high,
               min(price) AS low, last(price, trade_id) AS close, sum(quantity) AS volume, sum(price * quantity) AS turnover,
               count(*) AS ticks, min(trade_id) AS first_id, max(trade_id) AS last_id
        FROM given GROUP BY 1, 2
    ), stored AS (
        SELECT instrument_id, range_agg(int8range(trade_id, trade_id, '[]')) AS ids, count(*) AS rows, max(ts) AS last_ts,
               min(trade_id) FILTER (WHERE origin IN ('live', 'snapshot')) AS live_from, min(trade_id) AS low,
               max(trade_id) + 1 AS high
        FROM given GROUP BY 1
    ), delayed AS (
        SELECT instrument_id, (ts AT TIME ZONE 'UTC')::date, up_to_ms, count(*)
        FROM given WHERE up_to_ms IS NOT NULL GROUP BY 1, 2, 3
    ),
    -- include: parts/store_ledger
    ;
    RETURN cardinality(id);
END
$few$;

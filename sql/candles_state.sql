-- Record how far an exchange was asked for candles, in the state of a symbol.
INSERT INTO exchange_candle_state (state, instrument_id, granularity_s, covered)
VALUES (%(state)s, %(instrument)s, %(granularity_s)s,
        tstzmultirange(tstzrange(TIMESTAMPTZ 'epoch' + %(from_us)s * INTERVAL '1 microsecond',
                                 TIMESTAMPTZ 'epoch' + %(to_us)s * INTERVAL '1 microsecond')))
ON CONFLICT (instrument_id, granularity_s, state) DO UPDATE SET
    covered = exchange_candle_state.covered + excluded.covered, updated_at = now()

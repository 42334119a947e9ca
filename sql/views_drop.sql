-- All views of views.sql, which makes them anew: where the columns of one change, it cannot be replaced. What people made from
-- them is not dropped with them: the error names it.
DROP VIEW IF EXISTS
    candles_1m, candles_5m, candles_15m, candles_30m, candles_1h, candles_4h, candles_12h, candles_1d,
    quote_candles_1m, quote_candles_5m, quote_candles_15m, quote_candles_30m, quote_candles_1h,
    quote_candles_4h, quote_candles_12h, quote_candles_1d, bitcoin_candles_1m, bitcoin_candles_5m,
    bitcoin_candles_15m, bitcoin_candles_30m, bitcoin_candles_1h, bitcoin_candles_4h, bitcoin_candles_12h,
    bitcoin_candles_1d, consensus_candles_1m, consensus_candles_5m, consensus_candles_15m,
    consensus_candles_30m, consensus_candles_1h, consensus_candles_4h, consensus_candles_12h,
    consensus_candles_1d, forex_ticks, bitcoin_ticks, completeness, missed_time, trade_time_gaps,
    trade_time_asked, trade_gaps, trade_asked, quote_asked, archive_only, archived;

"""Binance spot: stream, REST and public archive."""

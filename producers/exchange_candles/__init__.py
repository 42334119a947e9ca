"""Candles made by exchanges, fetched through ccxt and published to `candles/<exchange>.<product>`."""

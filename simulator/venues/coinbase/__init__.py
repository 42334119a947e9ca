"""Coinbase: the Advanced Trade stream, the Exchange REST API, and the REST API that ccxt asks."""

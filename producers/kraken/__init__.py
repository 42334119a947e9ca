"""Kraken: WebSocket v2 and REST."""

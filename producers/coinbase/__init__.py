"""Coinbase: Advanced Trade WebSocket for what happens, Exchange REST for what happened."""

"""Coinbase: Advanced Trade (stream) and Exchange (REST)."""

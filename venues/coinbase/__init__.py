"""Coinbase, Advanced Trade and Exchange."""

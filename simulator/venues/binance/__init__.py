"""Binance, spot: candles only."""

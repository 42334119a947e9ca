"""Kraken, spot."""

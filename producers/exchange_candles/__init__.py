"""Candles that exchanges make themselves, by ccxt, onto the topics `candles/<exchange>.<product>`."""

"""A chart's candles: from the database, and live from the topics."""

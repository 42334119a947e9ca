"""Programs that publish market data."""

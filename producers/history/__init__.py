"""Back-fill of trades."""

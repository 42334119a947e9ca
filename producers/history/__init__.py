"""Back-fill of trades by command."""

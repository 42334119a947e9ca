"""Back-fill of trades: `python -m producers.<venue> --historical`."""

"""The gap filler: finds missing trades, fetches them, and signs what the venue does not have."""

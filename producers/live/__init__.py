"""One connection life for all venues that stream."""

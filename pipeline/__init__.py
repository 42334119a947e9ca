"""What every process shares: settings, topics, bus, store, health and metrics, logging, errors."""

"""What every program stands on: settings, errors, events, log, times, products, metrics, the life of a process."""

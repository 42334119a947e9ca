"""The basis of every program: settings, errors, events, log, times, products, metrics, process life cycle."""

"""The live stream of any venue: connection, subscriptions, staleness, publishing."""

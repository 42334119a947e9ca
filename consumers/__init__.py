"""Consumers: the writers with the loop they share, the gap filler, the dead letters."""

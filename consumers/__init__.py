"""Programs that consume messages: the writers, the gap filler, the dead-letter commands."""

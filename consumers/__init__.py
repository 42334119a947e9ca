"""Programs that subscribe: the writers, the gap filler, the commands for dead letters."""

"""Benchmarks of the whole pipeline on this machine: `scripts/bench`."""

"""OANDA."""

"""Dukascopy: both feeds of hours."""

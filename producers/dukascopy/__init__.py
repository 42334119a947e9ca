"""Dukascopy: hours of historical quotes, from two network feeds or a folder."""

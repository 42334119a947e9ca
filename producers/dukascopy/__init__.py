"""Dukascopy: historical quotes by the hour, from two network feeds or a folder."""

"""Dukascopy: hourly files of quotes, loaded by `producers.dukascopy`."""

"""Dukascopy: quotes by the hour. Its program is `producers.dukascopy`."""

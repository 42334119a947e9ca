"""Producers: what a venue sends, onto topics."""

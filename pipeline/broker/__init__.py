"""Pulsar: topics, admin, client, publishers."""

"""Apache Pulsar: topics, admin interface, client, publishers."""

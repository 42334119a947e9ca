"""TimescaleDB: connection, statements, migrations, the ledger."""

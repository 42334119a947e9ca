"""The archive: years of ticks in Parquet files, with a DuckLake catalog in the database. See docs/archive.md."""

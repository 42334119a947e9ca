"""`python -m pipeline.bootstrap`: create what the pipeline needs in broker and database."""

from __future__ import annotations

import click

from pipeline.broker.bootstrap import broker_when_ready
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.database.migrate import database_when_ready


@click.command()
@program("bootstrap")
def main() -> None:
    """Create what is missing in broker and database. Safe to repeat."""
    stop = Stop().listen()
    broker_when_ready(load(PulsarSettings), stop)
    database_when_ready(load(DatabaseSettings), stop)


if __name__ == "__main__":
    main()

"""`python -m pipeline.services.dev start|stop|status FOLDER`: a broker and a database that outlive a test run.

`TEST_SERVICES_DIR=FOLDER pytest …` uses them instead of starting its own.
"""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.services.database import Database
from pipeline.services.instance import Instance


@click.command(help=__doc__)
@click.argument("action", type=click.Choice(["start", "stop", "status"]))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def main(action: str, folder: Path) -> None:
    instance = Instance.at(folder.resolve())
    assert isinstance(instance.database.what, Database)
    if action == "start":
        instance.start()
    elif action == "stop":
        instance.stop()
    click.echo("running" if instance.running else "stopped")
    click.echo(f"PULSAR_URL={instance.pulsar_url}")
    click.echo(f"PULSAR_ADMIN_URL={instance.pulsar_admin_url}")
    click.echo(f"PULSAR_TOKEN_FILE={instance.pulsar_token}")
    click.echo(f"PULSAR_TLS_CA_FILE={instance.pulsar_certificate}")
    click.echo(f"DATABASE_URL={instance.database.what.shown_url()}")


if __name__ == "__main__":
    main()

"""`scripts/reset broker|database|demo [--yes]`: start over with an empty broker, database or demonstration.

Resetting the broker loses no stored rows: the programs recreate what they need.
"""

from __future__ import annotations

import shutil
import sys

import click

from pipeline.core.errors import WrongUse
from pipeline.services import demo, local, preflight
from pipeline.services.folders import ours
from pipeline.services.processes import recorded


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["broker", "database", "demo"]))
@click.option("--yes", is_flag=True, help="Do not ask.")
def main(what: str, yes: bool) -> None:
    try:
        _reset(what, yes)
    except WrongUse as error:
        print(f"scripts/reset: {error}", file=sys.stderr)
        sys.exit(2)


def _reset(what: str, yes: bool) -> None:
    if what == "demo":
        demo.enter_demo()
    elif what == "broker" and local.broker() is None:
        raise WrongUse("PULSAR_URL names a broker that is not ours: unset it to reset the private one.")
    elif what == "database" and local.database() is None:
        raise WrongUse("DATABASE_URL names a database that is not ours: unset it to reset the private one.")
    data = local.data_folder()
    folder = data if what == "demo" else data / what
    for file in preflight.records().glob("*"):
        if (process := recorded(file)) is not None:
            raise WrongUse(f"The pipeline is running ({file.stem} has pid {process.pid}): stop it first.")
    doomed = folder.with_name(f".{folder.name}.deleted")
    if doomed.exists():  # of a reset that was interrupted
        shutil.rmtree(doomed)
    if not folder.exists():
        click.echo(f"Nothing to do: {folder} does not exist.")
        return
    if folder.is_symlink():
        raise WrongUse(f"{folder} is a link to {folder.resolve()}: delete what it names and the link yourself.")
    if not ours(folder):
        raise WrongUse(f"{folder} was not made by this pipeline, so it stays: delete it yourself if you want to.")
    if not yes and not click.confirm(f"Delete everything in {folder}?", default=False):
        click.echo("Nothing was deleted.")
        sys.exit(1)
    try:
        folder.rename(doomed)  # atomically: an interrupted deletion must not leave half a broker
    except OSError as error:  # a mount point, for example
        raise WrongUse(f"{folder} cannot be moved to {doomed} ({error.strerror}), so nothing was deleted.") from None
    shutil.rmtree(doomed)
    click.echo(f"Deleted {folder}.")


if __name__ == "__main__":
    main()

"""`scripts/bench [PART ...] [--data FOLDER] [--json]`: measure this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from bench import archive, bare, drain, history, idle, live, load, page, plain, views
from bench.environment import Figures, Ground, ground
from pipeline.core.errors import PipelineError

PARTS = ("history", "load", "archive", "plain", "live", "drain", "soak", "views")
# Only when named: the first is a floor, the second needs what tests need, the others are for sizing.
MORE = ("bare", "page", "writers", "idle")


def _measures(data: Path | None, rounds: int, seconds: float, minutes: float) -> dict[str, Callable[[Ground], Figures]]:
    return {
        "history": lambda g: history.measure(g, data, rounds),
        "load": lambda g: load.measure(g, rounds),
        "archive": archive.measure,
        "plain": plain.measure,
        "live": lambda g: live.measure(g, seconds),
        "drain": drain.measure,
        "bare": lambda g: bare.measure(g, seconds),
        "soak": lambda g: live.soak(g, minutes),
        "views": views.measure,
        "page": lambda g: page.measure(g, seconds),
        "writers": drain.several,
        "idle": lambda g: idle.measure(g, seconds),
    }


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice((*PARTS, *MORE)))
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of bi5 files [the recorded EURUSD day, repeated on twenty weekdays].",
)
@click.option("--rounds", default=5, show_default=True, help="Runs of `history` each way; the median counts.")
@click.option("--seconds", default=60.0, show_default=True, help="Length of `live`, `bare`, `page`, `idle`.")
@click.option("--minutes", default=2.0, show_default=True, help="Length of `soak`; 60 for the figure in the docs.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout, for programs.")
def main(parts: tuple[str, ...], data: Path | None, rounds: int, seconds: float, minutes: float, as_json: bool) -> None:
    """Measure PARTS (all but the last four by default) with a private, durable broker and database.

    history: bi5 files through Pulsar to committed rows, next to the writer fed from memory. load: the producer of these
    alone, and its memory over a year of hours. archive: such a year straight into the archive, and read from there.
    plain: simpler ways to store the same trades. live: latency from frame to row. drain: a backlog of a million trades.
    soak: memory. views: query times. bare: what live would take at least. page: latency from frame to pixel, needs
    Chromium. writers: the backlog by 1, 2 and 4 writers. idle: processor time while nothing happens.
    """
    figures: dict[str, Figures] = {}
    measures = _measures(data, rounds, seconds, minutes)
    try:
        with ground() as here:
            for part in parts or PARTS:
                figures[part] = measures[part](here)
    except PipelineError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for part, values in figures.items():
        for name, value in values.items():
            shown = f"{value:,.2f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"
            print(f"{part + '.' + name:<44}{shown:>16}")


if __name__ == "__main__":
    main()

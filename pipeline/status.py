"""`python -m pipeline.status`: what is running, what arrives and how complete it is, on one screen."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.core.runtime import program
from pipeline.core.text import printable
from pipeline.ops import collect
from pipeline.services.demo import enter_demo

WATCH_EVERY_S = 2.0
_COLOURS = {"ok": "green", "unwell": "yellow", "down": "red", "off": "dim", "done": "dim"}
_WORDS = {"ok": "running", "done": "done"}


def age(seconds: float | None) -> str:
    """`0.4 s`, `12 min`, `3 d`: short enough for a column."""
    if seconds is None:
        return "-"
    for unit, size, below in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < below:
            return f"{max(0.0, seconds):.1f} s" if seconds < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} d"


def _table(*columns: str) -> Table:
    """Make a table; columns whose name ends in `>` are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", no_wrap=True)
    return table


def _about(one: collect.ProgramState) -> str:
    if one.state in ("unwell", "down"):
        return "; ".join(one.why)
    found = one.health
    parts = []
    if isinstance(backlog := found.get("backlog_messages"), int | float):
        parts.append(f"{backlog:,} waiting")
    if isinstance(stored := found.get("last_commit_age_s"), int | float):
        parts.append(f"stored {age(stored)} ago")
    if one.uptime_s is not None:
        parts.append(f"up {age(one.uptime_s)}")
    return ", ".join(parts)


def render(found: collect.State) -> Group:
    """Render the state as one screen."""
    running = _table("program", "state", "port>", "")
    for one in found.programs:
        word = Text(_WORDS.get(one.state, one.state), style=_COLOURS[one.state])
        # Not as markup: a venue's own words may be in it.
        running.add_row(one.name, word, str(one.port or "-"), Text(printable(_about(one))))
    stored = _table("instrument", "kind", "rows>", "per s>", "age>", "backlog>", "missing>", "explained>", "complete>")
    for row in found.instruments:
        missing = "-" if row.missing is None else f"{row.missing:,}"
        if row.live and row.missing is None:
            missing = "?"
        backlog = "-" if row.backlog is None else f"{row.backlog:,}"
        stored.add_row(
            f"{row.venue} {row.product_id}",
            row.kind,
            f"{row.rows:,}",
            f"{row.rate_per_s:.1f}",
            age(row.age_s),
            backlog,
            Text(missing, style="red" if row.missing or missing == "?" else ""),
            f"{row.explained:,}",
            row.complete,
        )
    parts: list[Any] = [running, Text(), stored if found.instruments else Text("Nothing is stored yet.")]
    if found.exchange_candles:
        candles = _table("candles of exchanges", "minutes>", "covered>", "newest final", "age>")
        for candle in found.exchange_candles:
            newest = f"{candle.newest_at:%Y-%m-%d %H:%M}" if candle.newest_at else "-"
            minutes = f"{candle.granularity_s / 60:g}"
            name = f"{candle.venue} {candle.product_id}"
            candles.add_row(name, minutes, f"{candle.covered:,}", newest, age(candle.age_s))
        parts += [Text(), candles]
    if found.archive:
        archive = _table("archive", "kind", "rows>", "files>", "bytes a row>", "files only>", "up to", "age>")
        for held in found.archive:
            archive.add_row(
                f"{held.venue} {held.product_id}",
                held.kind,
                f"{held.rows:,}",
                f"{held.files:,}" + (f" ({held.changed:,} changed)" if held.changed else ""),
                f"{held.bytes_a_row:.2f}",
                f"{held.files_only:,}",
                f"{held.until_at:%Y-%m-%d}",
                age(held.age_s),
            )
        parts += [Text(), archive]
    letters = ", ".join(f"{name} {count:,}" for name, count in found.dead_letters.items())
    if letters:
        parts += [Text(), Text(f"Dead letters: {letters} (python -m consumers.dead_letters list)", style="yellow")]
    if found.ok:
        parts += [Text(), Text("All well.", style="green")]
    else:
        parts += [Text(), *(Text(printable(f"! {problem}"), style="red") for problem in found.problems)]
    return Group(*parts)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@click.option("--demo", "of_demo", is_flag=True, help="Show the demonstration.")
@program("status")
def main(as_json: bool, watch: bool, of_demo: bool) -> int:
    """Show what is running and how complete the data is. The exit code is 1 if there are problems, otherwise 0."""
    if of_demo:
        enter_demo()
    if as_json:
        found = collect.collect()
        click.echo(json.dumps(found.json(), default=str))
        return 0 if found.ok else 1
    console = Console(highlight=False, soft_wrap=False)
    if not watch:
        found = collect.collect()
        if not console.is_terminal:
            console = Console(highlight=False, width=160)
        console.print(render(found))
        return 0 if found.ok else 1
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                found = collect.collect()
                live.update(render(found), refresh=True)
                time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:
            return 0 if found.ok else 1


if __name__ == "__main__":
    main()

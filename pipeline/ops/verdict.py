"""What `pipeline.verify` found, in words and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.archive.audit import Audited
from pipeline.core.errors import WrongUse
from pipeline.core.text import printable
from pipeline.ops.claim import others_text, provable, sampled_text, shown_by


@dataclass
class Verdict:
    """The result for one instrument and kind. `wrong` is empty if no check failed.

    `rows`, `first_at`, `last_at`: of a whole instrument by the ledger, of a part of its time as read from the table.
    """

    instrument_id: int
    venue: str
    product_id: str
    kind: str
    rows: int
    first_at: datetime | None
    last_at: datetime | None
    explained: int
    live: bool | None
    proven_until: datetime | None
    explained_by: dict[str, int] | None
    proof: str | None
    missed: timedelta | None
    dropped_before: datetime | None
    """Ticks before it were dropped and are in no file, so there is nothing to compare earlier candles with."""
    dropped: bool = False
    """Whether all of the time is before that."""
    rows_in_table: int = 0
    rows_in_files: int = 0
    """Of files that alone hold them: those are not read here, only looked for."""
    found: bool = True
    """Whether anything is known of the time."""
    wrong: list[str] = field(default_factory=list)


def words(v: Verdict) -> list[str]:
    """Return what is proven of an instrument without errors."""
    if not v.found:
        return ["nothing is stored in that time"]
    in_files = [f"{v.rows_in_files:,} rows only in files, which --archive reads"] if v.rows_in_files else []
    if in_files and not v.rows_in_table:
        return [*in_files, *others_text(v.explained_by)]
    if v.dropped:
        return [f"not compared: ticks before {v.dropped_before:%Y-%m-%d} were dropped", *in_files]
    since = f" from {v.dropped_before:%Y-%m-%d} on" if v.dropped_before else ""
    if not provable(v.proof):
        complete = sampled_text(v.missed) if v.proof else "whether it is complete is not"
        return ["candles proven" + since, complete, *in_files]
    told = ["proven" + shown_by(v.proof) + since, *others_text(v.explained_by), *in_files]
    if v.kind == "trades" and v.live:  # no more can be claimed while the newest trade is unconfirmed
        told[0] += f" up to {v.proven_until:%Y-%m-%d %H:%M:%S}" if v.proven_until else ", up to when is not known"
    return told


def print_verdicts(verdicts: Sequence[Verdict], as_json: bool) -> None:
    if as_json:
        for v in verdicts:
            told = {name: value for name, value in asdict(v).items() if name != "instrument_id"}
            click.echo(json.dumps(told, default=str))
        return
    table = Table("venue", "product", "kind", "rows", "first", "last", "explained", "verdict", box=None)
    for v in verdicts:
        times = [f"{at:%Y-%m-%d %H:%M}" if at else "-" for at in (v.first_at, v.last_at)]
        proven = f"[green]{', '.join(words(v))}[/]"
        row: list[Any] = [v.venue, v.product_id, v.kind, f"{v.rows:,}", *times, str(v.explained)]
        table.add_row(*row, proven if not v.wrong else f"[red]{len(v.wrong)} wrong[/]")
    console = _console()
    console.print(table)
    for v in verdicts:
        for text in v.wrong:
            console.print(_found(f"{v.venue} {v.product_id} {v.kind}:", text), highlight=False)


def print_files(checked: Iterable[tuple[Audited, bool]], as_json: bool) -> bool:
    """Print the archive's files, each with whether its candles were recomputed; returns whether all are right.

    Raises `WrongUse` if there is none.
    """
    table = Table(
        "kind", "venue", "product", "files", "rows", "bytes a row", "first day", "last day", "verdict", box=None
    )
    wrong, number = [], 0
    shown = _echoed(checked) if as_json else checked
    for (venue, product, kind), group in groupby(shown, lambda two: (two[0].venue, two[0].product_id, two[0].kind)):
        both = list(group)
        found, candles = [one for one, _ in both], sum(recomputed for _, recomputed in both)
        number += len(found)
        bad = [one for one in found if one.wrong]
        wrong += bad
        rows, size = sum(one.rows for one in found), sum(one.bytes for one in found)
        told = (
            f"{len(found):,}",
            f"{rows:,}",
            f"{size / rows:.2f}",
            f"{found[0].from_ts:%Y-%m-%d}",
            f"{found[-1].from_ts:%Y-%m-%d}",
        )
        good = "as in the ledger" + (f", candles of {candles:,} proven" if candles else "")
        table.add_row(kind, venue, product, *told, f"[red]{len(bad)} wrong[/]" if bad else f"[green]{good}[/]")
    if not number:
        raise WrongUse("no archived data matches; see the view archived.")
    if not as_json:
        console = _console()
        console.print(table)
        for one in wrong:
            console.print(_found(f"{one.path}:", "; ".join(one.wrong)), highlight=False, soft_wrap=True)
    return not wrong


def _echoed(checked: Iterable[tuple[Audited, bool]]) -> Iterator[tuple[Audited, bool]]:
    for one, recomputed in checked:
        click.echo(json.dumps({**asdict(one), "candles_recomputed": recomputed}, default=str))
        yield one, recomputed


def _found(what: str, text: str) -> Text:
    """Not as markup: a damaged file may have its own words."""
    return Text.assemble((what, "red"), " ", printable(text))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)

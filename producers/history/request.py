"""What a load of trades was asked to bring, and what that would cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import psycopg

from pipeline.core.errors import Refused
from pipeline.core.times import duration, us_to_iso
from pipeline.database.ledger import Ledger
from venues import id_ranges
from venues.id_ranges import IdRange
from venues.rest.daily_files import Planned, WithArchive
from venues.trade_walk import Source

SHOWN = 5  # items of a list shown to users


@dataclass(frozen=True)
class Request:
    """What to load: the trades of `products` in `[from_us, to_us)`, in µs since 1970."""

    products: tuple[str, ...]
    from_us: int
    to_us: int
    dry_run: bool = False
    wait_for_turn: bool = True
    wait_for_ledger: bool = True


def id_span(source: Source, request: Request, product: str) -> IdRange | None:
    """Return the range of ids of the requested interval; None if it contains no trade."""
    first = source.first_id_at(product, request.from_us)
    last = source.first_id_at(product, request.to_us) - 1
    return (first, last) if first <= last else None


def estimate(source: Source, request: Request, ledger: Ledger) -> int:
    """Print how many requests the load takes and how long (`--dry-run`)."""
    calls = 0
    for product in request.products:
        try:
            span = id_span(source, request, product)
            missing = _missing(ledger, source.venue, product, span) if span else []
            planned = source.planned(product, missing) if isinstance(source, WithArchive) else None
        except Refused as error:
            click.echo(f"{product}: {error}")
            continue
        needed = sum(-(-(last - first + 1) // source.page_rows) for first, last in missing)
        way = ""
        if planned is not None:
            # After each file REST is asked what follows.
            needed = max(0, needed - planned.trades // source.page_rows) + planned.files
            way = f", {_from_archive(planned)}, {id_ranges.size(missing) - planned.trades:,} by REST"
        calls += needed
        asked = span[1] - span[0] + 1 if span else 0
        click.echo(
            f"{product}: {asked:,} trades requested, {id_ranges.size(missing):,} missing{way}, about {needed:,} calls,"
            f" {duration(needed / source.calls_per_s)}"
        )
    click.echo(f"in total: about {calls:,} calls, {duration(calls / source.calls_per_s)}; nothing was loaded")
    return 0


def _missing(ledger: Ledger, venue: str, product: str, span: IdRange) -> list[IdRange]:
    try:
        return ledger.missing_ids(venue, product, *span)
    except psycopg.errors.UndefinedTable:
        return [span]  # a new database


def _from_archive(planned: Planned) -> str:
    megabytes = -(-planned.bytes // 1_000_000)
    text = f"{planned.trades:,} of them from {planned.files} files of the public archive ({megabytes:,} MB"
    if planned.absent:
        more = f" and {len(planned.absent) - SHOWN} more days" if len(planned.absent) > SHOWN else ""
        text += f"; it has none of {', '.join(map(str, planned.absent[:SHOWN]))}{more}"
    return f"{text})"


def describe(request: Request) -> dict[str, Any]:
    """Return the request as fields of a log line."""
    return {"products": request.products, "from": us_to_iso(request.from_us), "to": us_to_iso(request.to_us)}

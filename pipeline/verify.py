"""`python -m pipeline.verify`: prove that the stored data is complete and that the candles match the ticks.

For each instrument, in SQL over the actual rows: ids are contiguous or explained, rows equal the ledger's ids, no id is
duplicated, hours match the ledger's counts, and every stored candle equals one recomputed from the ticks. Data dropped
by retention is excluded from the comparison; the ledger still accounts for it.

With `--archive`, for each current file of the archive: rows, ranges and hash as read from the file, compared with the
ledger and the catalog.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import click
from psycopg import sql
from rich.console import Console
from rich.table import Table

from pipeline.archive.audit import Audited, audit
from pipeline.archive.open import need_ledger, open_storage
from pipeline.core.errors import WrongUse, told_by
from pipeline.core.moments import moment_us
from pipeline.core.products import canonical_product, canonical_venue
from pipeline.core.runtime import now_us, program
from pipeline.core.settings import ArchiveSettings, DatabaseSettings, load
from pipeline.core.times import from_us
from pipeline.database import query
from pipeline.database.connection import Connection, connect
from pipeline.database.sql import statement
from pipeline.ops.claim import others_text, provable, sampled_text, shown_by
from venues.registry import product_at

# Statements in sql/verify. `<kind>_rows` reads the rows, these compare what it found, and the ledger, with each other.
CHECKS = {"trades": ("trades_ledger", "trades_gaps", "trades_time_gaps"), "quotes": ("quotes_ledger",)}
LARGE = 200_000  # rows
PIECES = 4  # for two sessions, so that neither waits long for the other


@dataclass
class Verdict:
    """The result for one instrument and kind. `wrong` is empty if everything is proven."""

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
    wrong: list[str] = field(default_factory=list)


def verify(
    conn: Connection,
    venue: str | None = None,
    product_id: str | None = None,
    from_: datetime | None = None,
    to: datetime | None = None,
    *,
    second: Connection | None = None,
) -> Iterator[Verdict]:
    """Check all matching instruments over ticks of `[from_, to)`. Uses a snapshot per instrument: writers may run.

    `second`: a session that reads half of the rows of instruments that have at least `LARGE`.
    """
    span = {"from": from_ or datetime(1970, 1, 1, tzinfo=UTC), "to": to or datetime(2200, 1, 1, tzinfo=UTC)}
    found = query.rows(
        conn,
        Verdict,
        """
        SELECT i.instrument_id, c.venue, c.product_id, c.kind, c.rows, c.first_at, c.last_at, c.explained,
               c.live, c.proven_until, c.explained_by, c.proof, c.missed
        FROM completeness c JOIN instruments i USING (venue, product_id)
        WHERE (%(venue)s::text IS NULL OR venue = %(venue)s) AND (%(product)s::text IS NULL OR product_id = %(product)s)
        """,
        {"venue": venue, "product": product_id},
    )
    for verdict in found:
        kind = "trades" if verdict.kind == "trades" else "quotes"
        with conn.transaction():
            # All queries of an instrument see the same state, whatever the writers do meanwhile.
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            pieces = _read(conn, second, f"verify/{kind}_rows", _spans(verdict, span))
            values = {
                "instrument": verdict.instrument_id,
                **span,
                "ids": [piece.ids for piece in pieces],
                "rows": sum(piece.rows for piece in pieces),
            }
            for check in CHECKS[kind]:
                verdict.wrong += query.scalars(conn, statement(f"verify/{check}"), values)
            verdict.wrong += [text for piece in pieces for text in piece.wrong]
        yield verdict


@dataclass(frozen=True)
class _Piece:
    """What the rows of a part of the time say."""

    ids: str | None
    """An `int8multirange`; None for quotes, which have no ids."""
    rows: int
    wrong: list[str]


def _spans(verdict: Verdict, span: Mapping[str, datetime]) -> list[dict[str, Any]]:
    """Return the parameters of the statements that read an instrument's rows: a long time in pieces of whole hours."""
    cuts: set[datetime] = set()
    if verdict.rows >= LARGE and verdict.first_at and verdict.last_at:
        first, last = max(verdict.first_at, span["from"]), min(verdict.last_at, span["to"])
        steps = (first + (last - first) * number / PIECES for number in range(1, PIECES))
        cuts = {at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for at in steps}
    ends = [span["from"], *sorted(cut for cut in cuts if span["from"] < cut < span["to"]), span["to"]]
    return [{"instrument": verdict.instrument_id, "from": low, "to": high} for low, high in pairwise(ends)]


def _read(conn: Connection, second: Connection | None, name: str, spans: Sequence[dict[str, Any]]) -> list[_Piece]:
    """Read the rows of all `spans`. `conn` is in a transaction; `second` sees the same state."""
    waiting = deque(enumerate(spans))
    found: dict[int, list[_Piece]] = {}

    def work(session: Connection) -> None:
        while True:
            try:
                number, values = waiting.popleft()
            except IndexError:
                return
            found[number] = query.rows(session, _Piece, statement(name), values)

    if second is None or len(spans) == 1:
        work(conn)
    else:
        with second.transaction(), ThreadPoolExecutor(1) as pool:
            second.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = query.scalar(conn, "SELECT pg_export_snapshot()")
            second.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            other = pool.submit(work, second)
            try:
                work(conn)
                other.result()
            except BaseException:
                waiting.clear()
                second.cancel_safe()
                raise
    return [piece for number in sorted(found) for piece in found[number]]


def _time(text: str | None, name: str) -> datetime | None:
    return None if text is None else from_us(moment_us(text, now_us(), name))


@click.command()
@click.option("--venue", help="Only this venue, for example kraken.")
@click.option("--product", help="Only this product, for example BTC-USD.")
@click.option("--from", "from_", help="Only ticks from this time (UTC) on, for example 2024-05-01T12:00 or 7_days_ago.")
@click.option("--to", help="Only ticks before this time, in the same format.")
@click.option("--archive", "files", is_flag=True, help="Check the archive's files instead, by reading them completely.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line instead of a table.")
@program("verify", logs=False)
def main(venue: str | None, product: str | None, from_: str | None, to: str | None, files: bool, as_json: bool) -> int:
    """Prove the candles, and completeness where the venue allows it. The exit code is 1 if anything is wrong, else
    0."""
    span = _time(from_, "--from"), _time(to, "--to")
    with told_by("--venue"):
        venue = canonical_venue(venue) if venue else None
    with told_by("--product"):
        wanted = (product_at(venue, product) if venue else canonical_product(product)) if product else None
    with _session() as conn:
        if files:
            need_ledger(conn)
            return _archive(audit(conn, open_storage(load(ArchiveSettings)), venue, wanted, *span), as_json)
        with _session() as second:
            verdicts = list(verify(conn, venue, wanted, *span, second=second))
    if not verdicts:
        raise WrongUse("no stored data matches; see the view completeness.")
    if as_json:
        for verdict in verdicts:
            told = {name: value for name, value in asdict(verdict).items() if name != "instrument_id"}
            click.echo(json.dumps(told, default=str))
    else:
        _print(verdicts)
    return int(any(v.wrong for v in verdicts))


def _session() -> Connection:
    """Open a session that may take long, and wait for the other one."""
    conn = connect(load(DatabaseSettings), "verify", read_only=True)
    conn.execute("SET statement_timeout = 0")
    conn.execute("SET idle_in_transaction_session_timeout = 0")
    conn.execute("SET work_mem = '256MB'")
    return conn


def _words(v: Verdict) -> list[str]:
    """Return what is proven of an instrument without errors."""
    if not provable(v.proof):
        return ["candles proven", sampled_text(v.missed) if v.proof else "whether it is complete is not"]
    words = ["proven" + shown_by(v.proof), *others_text(v.explained_by)]
    if v.kind == "trades" and v.live:  # no more can be claimed while the newest trade is unconfirmed
        words[0] += f" up to {v.proven_until:%Y-%m-%d %H:%M:%S}" if v.proven_until else ", up to when is not known"
    return words


def _print(verdicts: list[Verdict]) -> None:
    table = Table("venue", "product", "kind", "rows", "first", "last", "explained", "verdict", box=None)
    for v in verdicts:
        told = [f"{at:%Y-%m-%d %H:%M}" if at else "-" for at in (v.first_at, v.last_at)]
        proven = f"[green]{', '.join(_words(v))}[/]"
        row: list[Any] = [v.venue, v.product_id, v.kind, f"{v.rows:,}", *told, str(v.explained)]
        table.add_row(*row, proven if not v.wrong else f"[red]{len(v.wrong)} wrong[/]")
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for v in verdicts:
        for text in v.wrong:
            console.print(f"[red]{v.venue} {v.product_id} {v.kind}:[/] {text}", highlight=False)


def _archive(audited: Iterator[Audited], as_json: bool) -> int:
    """Print the results of the files."""
    table = Table(
        "kind", "venue", "product", "files", "rows", "bytes a row", "first day", "last day", "verdict", box=None
    )
    wrong, number = [], 0
    for (venue, product, kind), group in groupby(audited, lambda one: (one.venue, one.product_id, one.kind)):
        found = list(group)
        number += len(found)
        bad = [one for one in found if one.wrong]
        wrong += bad
        if as_json:
            for one in found:
                click.echo(json.dumps(asdict(one), default=str))
            continue
        rows, size = sum(one.rows for one in found), sum(one.bytes for one in found)
        told = (
            f"{len(found):,}",
            f"{rows:,}",
            f"{size / rows:.2f}",
            f"{found[0].from_ts:%Y-%m-%d}",
            f"{found[-1].from_ts:%Y-%m-%d}",
        )
        table.add_row(kind, venue, product, *told, f"[red]{len(bad)} wrong[/]" if bad else "[green]as in the ledger[/]")
    if not number:
        raise WrongUse("no archived data matches; see the view archived.")
    if not as_json:
        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(table)
        for one in wrong:
            console.print(f"[red]{one.path}:[/] {'; '.join(one.wrong)}", highlight=False, soft_wrap=True)
    return int(bool(wrong))


if __name__ == "__main__":
    main()

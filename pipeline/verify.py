"""`python -m pipeline.verify`: prove that the stored data is complete and that the candles match the ticks.

For each instrument, in SQL over the actual rows: ids are contiguous or explained, rows equal the ledger's ids, no id is
duplicated, hours match the ledger's counts, and every stored candle equals one recomputed from the ticks. The ledger
accounts for ticks that are in no table any more, but they cannot be compared with candles here: the verdict says from
when on it was done, and how many rows are in files alone. Those files must be there.

With `--archive`, for each current file of the archive: rows, ranges and hash as read from the file, compared with the
ledger and the catalog; and of the files that alone hold their rows, the candles and hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import click
from psycopg import sql

from pipeline.archive.audit import Audited, audit
from pipeline.archive.open import need_ledger, open_storage
from pipeline.archive.storage import Storage
from pipeline.core.errors import Unavailable, WrongUse, naming
from pipeline.core.moments import EARLIEST, LATEST
from pipeline.core.products import canonical_product, canonical_venue
from pipeline.core.runtime import program
from pipeline.core.settings import ArchiveSettings, DatabaseSettings, load
from pipeline.database import query
from pipeline.database.connection import Connection, connect
from pipeline.database.sql import statement
from pipeline.ops.file_candles import may_recompute, recomputed
from pipeline.ops.span import span_of
from pipeline.ops.verdict import Verdict, print_files, print_verdicts
from venues.registry import product_at

# Statements in sql/verify. `<kind>_rows` reads the rows, these compare what it found, and the ledger, with each other.
CHECKS = {"trades": ("trades_ledger", "trades_gaps", "trades_time_gaps"), "quotes": ("quotes_ledger",)}
LARGE = 200_000  # rows
PIECES = 4  # for two sessions, so that neither waits long for the other
TOLD = 20  # of one kind of error
LOOKS = 8  # for files at a time: over a network each look waits for an answer


def verify(
    conn: Connection,
    venue: str | None = None,
    product_id: str | None = None,
    from_: datetime | None = None,
    to: datetime | None = None,
    *,
    second: Connection | None = None,
    storage: Storage | None = None,
) -> Iterator[Verdict]:
    """Check all matching instruments over ticks of `[from_, to)`. Uses a snapshot per instrument: writers may run.

    `second`: a session that reads half of the rows of instruments that have at least `LARGE`. `storage`: where the
    files of the archive are looked for, by default where the settings say.
    """
    span = {"from": from_ or EARLIEST, "to": to or LATEST}
    whole = (span["from"], span["to"]) == (EARLIEST, LATEST)
    wanted = {"venue": venue, "product": product_id, **span}
    for verdict in query.rows(conn, Verdict, statement("verify/instruments"), wanted):
        kind = "trades" if verdict.kind == "trades" else "quotes"
        with conn.transaction():
            # All queries of an instrument see the same state, whatever the writers do meanwhile.
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            pieces = _read(conn, second, f"verify/{kind}_rows", _spans(verdict, kind, span))
            rows = sum(piece.rows for piece in pieces)
            values = {
                "instrument": verdict.instrument_id,
                "kind": kind,
                **span,
                "ids": [piece.ids for piece in pieces],
                "rows": rows,
            }
            for check in CHECKS[kind]:
                verdict.wrong += query.scalars(conn, statement(f"verify/{check}"), values)
            verdict.wrong += [text for piece in pieces for text in piece.wrong]
            files = query.rows(conn, _File, statement("verify/files"), values)
            verdict.rows_in_table, verdict.rows_in_files = rows, sum(file.rows for file in files)
            verdict.dropped = verdict.dropped_before is not None and span["to"] <= verdict.dropped_before
            if not whole:
                verdict.found = rows > 0 or query.scalar(conn, statement("verify/found"), values)
                verdict.rows = rows
                verdict.first_at = min((piece.first_at for piece in pieces if piece.first_at), default=None)
                verdict.last_at = max((piece.last_at for piece in pieces if piece.last_at), default=None)
        if files:
            storage = storage or open_storage(load(ArchiveSettings))
            verdict.wrong += _absent(storage, files)
        yield verdict


@dataclass(frozen=True)
class _File:
    """A file that alone holds its rows."""

    path: str
    rows: int


def _absent(storage: Storage, files: Sequence[_File]) -> list[str]:
    """Look for files. Raises `Unavailable` if the storage does not answer."""
    try:
        with ThreadPoolExecutor(LOOKS) as pool:
            there = list(pool.map(lambda file: storage.has(file.path), files))
    except OSError as error:
        raise Unavailable(f"the archive's files cannot be looked for: {error}") from None
    gone = [file for file, is_there in zip(files, there, strict=True) if not is_there]
    told = [f"{file.path} is not in {storage.address}: it alone has {file.rows:,} rows" for file in gone[:TOLD]]
    return told + ([f"{len(gone) - TOLD:,} more files are not there"] if len(gone) > TOLD else [])


@dataclass(frozen=True)
class _Piece:
    """What the rows of a part of the time say."""

    ids: str | None
    """An `int8multirange`; None for quotes, which have no ids."""
    rows: int
    first_at: datetime | None
    last_at: datetime | None
    wrong: list[str]


def _spans(verdict: Verdict, kind: str, span: Mapping[str, datetime]) -> list[dict[str, Any]]:
    """Return the parameters of the statements that read an instrument's rows: a long time in pieces of whole hours."""
    cuts: set[datetime] = set()
    if verdict.rows >= LARGE and verdict.first_at and verdict.last_at:
        first, last = max(verdict.first_at, span["from"]), min(verdict.last_at, span["to"])
        steps = (first + (last - first) * number / PIECES for number in range(1, PIECES))
        cuts = {at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for at in steps}
    ends = [span["from"], *sorted(cut for cut in cuts if span["from"] < cut < span["to"]), span["to"]]
    known = {"instrument": verdict.instrument_id, "kind": kind, "complete": False}  # of files, the table lacks rows
    return [{**known, "from": low, "to": high} for low, high in pairwise(ends)]


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


@click.command()
@click.option("--venue", help="Only this venue, for example kraken.")
@click.option("--product", help="Only this product, for example BTC-USD.")
@click.option("--from", "from_", help="Only ticks from this time (UTC) on, for example 2024-05-01T12:00 or 7_days_ago.")
@click.option("--to", help="Only ticks before this time, in the same format.")
@click.option("--archive", "files", is_flag=True, help="Check the archive's files instead, by reading them completely.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line instead of a table.")
@program("verify", logs=False)
def main(venue: str | None, product: str | None, from_: str | None, to: str | None, files: bool, as_json: bool) -> int:
    """Prove the candles, and completeness where the venue allows it. The exit code is 1 if anything is wrong, 2 if
    there is nothing to prove, else 0."""
    span = span_of(from_, to)
    with naming("--venue"):
        venue = canonical_venue(venue) if venue else None
    with naming("--product"):
        wanted = (product_at(venue, product) if venue else canonical_product(product)) if product else None
    with _session() as conn:
        if files:
            need_ledger(conn)
            storage = open_storage(load(ArchiveSettings))
            return int(not print_files(_files(conn, storage, audit(conn, storage, venue, wanted, *span)), as_json))
        with _session() as second:
            verdicts = list(verify(conn, venue, wanted, *span, second=second))
    if not verdicts:
        raise WrongUse("no stored data matches; see the view completeness.")
    if not any(verdict.found or verdict.wrong for verdict in verdicts):
        raise WrongUse("nothing is stored in that time; see the view completeness.")
    print_verdicts(verdicts, as_json)
    return int(any(verdict.wrong for verdict in verdicts))


def _files(conn: Connection, storage: Storage, audited: Iterator[Audited]) -> Iterator[tuple[Audited, bool]]:
    """Yield each file, and whether the candles of its span were recomputed: of those that alone hold their rows."""
    may = may_recompute(conn)
    if not may:
        click.echo("verify: this role may not create temporary tables, so no candles are recomputed.", err=True)
    for one in audited:
        wrong = recomputed(conn, storage, one) if may and not one.wrong else None
        one.wrong += wrong or []
        yield one, wrong is not None


def _session() -> Connection:
    """Open a session that may take long, and wait for the other one."""
    conn = connect(load(DatabaseSettings), "verify", read_only=True)
    conn.execute("SET statement_timeout = 0")
    conn.execute("SET idle_in_transaction_session_timeout = 0")
    conn.execute("SET work_mem = '256MB'")
    return conn


if __name__ == "__main__":
    main()

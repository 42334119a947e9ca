"""The archive's files against ledger and catalog: what a file holds is read from the file alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive import files
from pipeline.archive.hash import RowsHash
from pipeline.archive.layout import LAYOUTS, Kind, Layout
from pipeline.archive.storage import Storage
from pipeline.database.connection import Connection


@dataclass
class Audited:
    """A file and what is wrong with it. `rows`, `bytes`, `hash`: as recorded in the ledger."""

    venue: str
    product_id: str
    kind: Kind
    from_ts: datetime
    to_ts: datetime
    path: str
    rows: int
    bytes: int
    hash: str
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Held:
    """What a file holds, read from it alone. `about`: its own metadata."""

    rows: int
    hash: str
    first_ts: datetime
    last_ts: datetime
    first_id: int | None
    last_id: int | None
    about: dict[str, Any]


def audit(
    conn: Connection,
    storage: Storage,
    venue: str | None = None,
    product_id: str | None = None,
    from_: datetime | None = None,
    to: datetime | None = None,
) -> Iterator[Audited]:
    """Yield every current file whose span overlaps `[from_, to)`, ordered by venue, product, kind and time."""
    found = conn.execute(
        """
        SELECT a.venue, a.product_id, a.kind, a.from_ts, a.to_ts, a.path, a.rows, a.bytes, a.hash, a.revision,
               a.first_ts, a.last_ts, a.first_id, a.last_id, c.record_count, c.file_size_bytes
        FROM archived a
        LEFT JOIN (
            SELECT 'main/' || t.table_name || '/' || f.path AS path, f.record_count, f.file_size_bytes
            FROM lake.ducklake_data_file f JOIN lake.ducklake_table t USING (table_id) WHERE f.end_snapshot IS NULL
        ) c USING (path)
        WHERE (%(venue)s::text IS NULL OR venue = %(venue)s) AND (%(product)s::text IS NULL OR product_id = %(product)s)
          AND to_ts > %(from)s AND from_ts < %(to)s
        ORDER BY a.venue, a.product_id, a.kind, a.from_ts
        """,
        {
            "venue": venue,
            "product": product_id,
            "from": from_ or datetime(1970, 1, 1, tzinfo=UTC),
            "to": to or datetime(2200, 1, 1, tzinfo=UTC),
        },
    ).fetchall()
    for row in found:
        one = Audited(*row[:9])
        revision, first_ts, last_ts, first_id, last_id, *cataloged = row[9:]
        if cataloged != [one.rows, one.bytes]:
            one.wrong.append(f"the catalog has {cataloged[0]} rows in {cataloged[1]} bytes")
        expected = files.metadata_of(one.venue, one.product_id, one.kind, one.from_ts, one.to_ts, revision)
        recorded = Held(one.rows, one.hash, first_ts, last_ts, first_id, last_id, expected)
        try:
            held = read(storage.open(one.path), LAYOUTS[one.kind])
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            one.wrong.append(f"cannot be read: {' '.join(str(error).split())[:300]}")
        else:
            names = [name for name in recorded.__dataclass_fields__ if getattr(recorded, name) != getattr(held, name)]
            one.wrong += [f"{name} is {getattr(held, name)}, not {getattr(recorded, name)}" for name in names]
        yield one


def read(source: Any, layout: Layout) -> Held:
    """Read a whole file. Raises `OSError`, `ValueError`, `KeyError` or `pyarrow.ArrowException` if it is not readable
    as one of ours."""
    with files.open_file(source) as opened:
        about = files.read_metadata(opened)
    digest, times, ids = RowsHash(layout), [], []
    for piece in files.read(source):
        digest.update(piece)
        times += [piece[layout.time][0].as_py(), piece[layout.time][-1].as_py()]
        if layout.kind == "trades":
            ids += pc.min_max(piece["trade_id"]).as_py().values()
    return Held(
        digest.rows,
        digest.hexdigest(),
        min(times),
        max(times),
        min(ids, default=None),
        max(ids, default=None),
        about,
    )

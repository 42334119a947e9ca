"""A certificate for one UTC day of an instrument, from the ledger and from the archive's file, which is read
completely.

It states only what was found: `complete` is true if every row is in a file that matches the ledger and nothing of the
day is missing; otherwise `problems` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from pipeline.archive import files
from pipeline.archive.hash import RowsHash
from pipeline.archive.layout import LAYOUTS, Kind
from pipeline.archive.rows import CANDLES
from pipeline.archive.storage import Storage
from pipeline.core.errors import WrongUse
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.database.sql import statement

_BY_IDS = "contiguous ids"
_BY_TIME = ("time windows", "sequence per connection")
_FINAL = ("present", "closed", "confirmed_empty")  # states of an hour that account for it


@dataclass
class Certificate:
    """`trades` and `quotes`: what is known of each; `samples`: tickers, whose completeness cannot be known.

    `clock_offset_ms`: the venue's clock minus ours: minimum, mean, maximum and number of measurements. `delay_ms`: the
    50 and 99 % quantiles of the delay of live trades, by our clock minus the venue's. Both are None if nothing was
    measured.
    """

    venue: str
    product: str
    day: str
    made_at: datetime
    complete: bool = False
    problems: list[str] = field(default_factory=list)
    trades: dict[str, Any] | None = None
    quotes: dict[str, Any] | None = None
    samples: dict[str, Any] | None = None
    clock_offset_ms: dict[str, float] | None = None
    delay_ms: dict[str, float] | None = None


@dataclass(frozen=True)
class _File:
    path: str
    revision: int
    from_ts: datetime
    to_ts: datetime
    rows: int
    bytes: int
    hash: str
    archived_at: datetime
    up_to_date: bool


@dataclass(frozen=True)
class _Found:
    missing: list[str]
    explained: dict[str, int] | None


@dataclass(frozen=True)
class _Hours:
    state: str | None
    hours: int
    rows: int
    corrected: int


def certificate(conn: Connection, storage: Storage, venue: str, product_id: str, day: datetime) -> Certificate:
    """Certify the day that begins at `day` (UTC), in one snapshot of the ledger. Raises `WrongUse` for an unknown
    instrument."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return _Maker(conn, storage, venue, product_id, day).make()


class _Maker:
    def __init__(self, conn: Connection, storage: Storage, venue: str, product_id: str, day: datetime) -> None:
        found: dict[str, Any] | None = query.row(
            conn,
            dict,
            "SELECT instrument_id AS id, now() AS now, proof_of('trades', proof) AS trades,"
            " proof_of('quotes', proof) AS quotes FROM instruments WHERE venue = %s AND product_id = %s",
            (venue, product_id),
        )
        if found is None:
            raise WrongUse(f"no data of {venue} {product_id} is stored; see the view completeness.")
        self._conn, self._storage, self._instrument = conn, storage, found["id"]
        self._proof = {kind: found[kind] for kind in CANDLES}
        self._from, self._to = day, day + timedelta(days=1)
        self._made = Certificate(venue, product_id, f"{day:%Y-%m-%d}", found["now"].astimezone(UTC))

    def make(self) -> Certificate:
        made = self._made
        if self._to > made.made_at:
            made.problems.append("the day is not over")
        made.trades = self._trades()
        quotes = self._held("quotes")
        if self._proof["quotes"] == "hours":
            made.quotes = (quotes or {"rows": 0, "file": None}) | self._quote_hours(quotes)
        else:
            made.samples = quotes
        if made.trades is None and made.quotes is None:
            made.problems.append(
                "only tickers are stored, which are samples: nobody can say that they are all"
                if quotes
                else "no data of that day is stored"
            )
        made.clock_offset_ms, made.delay_ms = self._clock_offset(), self._delay()
        made.complete = not made.problems
        return made

    def _clock_offset(self) -> dict[str, float] | None:
        return query.row(
            self._conn,
            dict,
            "SELECT least_ms AS least, (total_ms::numeric / looks)::float8 AS mean, greatest_ms AS greatest, looks"
            " FROM clock_offsets WHERE instrument_id = %(instrument)s AND day = %(day)s",
            {"instrument": self._instrument, "day": self._from.date()},
        )

    def _delay(self) -> dict[str, float] | None:
        found: dict[str, float] | None = query.row(
            self._conn,
            dict,
            "SELECT min(up_to_ms) FILTER (WHERE below * 100 >= total * 50) AS p50,"
            " min(up_to_ms) FILTER (WHERE below * 100 >= total * 99) AS p99, max(total)::bigint AS trades"
            " FROM (SELECT up_to_ms, sum(trades) OVER (ORDER BY up_to_ms) AS below, sum(trades) OVER () AS total"
            " FROM live_delays WHERE instrument_id = %(instrument)s AND day = %(day)s) steps",
            {"instrument": self._instrument, "day": self._from.date()},
        )
        return found if found and found["trades"] else None

    def _trades(self) -> dict[str, Any] | None:
        proof, held = self._proof["trades"], self._held("trades")
        if proof in _BY_TIME:
            held = held or {"rows": 0, "file": None}
            found = query.row(self._conn, _Found, statement("archive/certificate_times"), self._named())
            unit = "times"
        elif held is None:
            return None
        elif proof != _BY_IDS:
            self._made.problems.append("trades: nobody can show that none is missing")
            return held | {"proof": proof}
        elif "first_id" not in held:  # no file, or an unreadable one: reported already
            return held | {"proof": proof}
        else:
            ids = {"first": held["first_id"], "last": held["last_id"]} if held["rows"] else self._between()
            found = query.row(self._conn, _Found, statement("archive/certificate_trades"), {**self._named(), **ids})
            unit = "ids"
        if found is None:
            self._made.problems.append("trades: the ledger does not know them")
            return held | {"proof": proof}
        self._made.problems += [f"trades: {unit} {one} are neither stored nor explained" for one in found.missing]
        return held | {"proof": proof, "explained": found.explained or {}}

    def _between(self) -> dict[str, int]:
        """Return the ids that a day without trades would have: those between the trades before and after it, if any."""
        found: dict[str, int | None] | None = query.row(
            self._conn,
            dict,
            "SELECT (SELECT last_id FROM trade_candle_1h WHERE instrument_id = %(instrument)s AND bucket < %(from)s"
            " ORDER BY bucket DESC LIMIT 1) AS before, (SELECT first_id FROM trade_candle_1h"
            " WHERE instrument_id = %(instrument)s AND bucket >= %(to)s ORDER BY bucket LIMIT 1) AS after",
            self._named(),
        )
        before, after = (found["before"], found["after"]) if found else (None, None)
        first = (after or 1) if before is None else before + 1
        return {"first": first, "last": first - 1 if after is None else max(after - 1, 0)}

    def _quote_hours(self, held: dict[str, Any] | None) -> dict[str, Any]:
        hours = query.rows(self._conn, _Hours, statement("archive/certificate_quotes"), self._named())
        by_state = {one.state or "not_there": one.hours for one in hours}
        problems = [f"quotes: {n} hours are {state}" for state, n in by_state.items() if state not in _FINAL]
        rows = sum(one.rows for one in hours)
        if held is not None and rows != held["rows"]:
            problems.append(f"quotes: the ledger's hours have {rows} rows, the file {held['rows']}")
        self._made.problems += problems
        explained = {state: n for state, n in by_state.items() if state in _FINAL[1:]}
        return {
            "proof": "hours",
            "hours": by_state,
            "repaired": sum(one.corrected for one in hours),
            "explained": explained,
        }

    def _held(self, kind: Kind) -> dict[str, Any] | None:
        """Return what the file holds of the day; None if neither file nor candles have rows of it."""
        stored = query.scalar(
            self._conn,
            sql.SQL(
                "SELECT sum(ticks)::bigint FROM {}"
                " WHERE instrument_id = %(instrument)s AND bucket >= %(from)s AND bucket < %(to)s"
            ).format(sql.Identifier(CANDLES[kind])),
            self._named(),
        )
        file = query.row(
            self._conn,
            _File,
            "SELECT path, revision, from_ts, to_ts, rows, bytes, hash, archived_at, up_to_date FROM archived"
            " WHERE instrument_id = %(instrument)s AND kind = %(kind)s AND from_ts <= %(from)s AND to_ts >= %(to)s",
            {**self._named(), "kind": kind},
        )
        problems = self._made.problems
        if file is None:
            if stored:
                problems.append(f"{kind}: not archived")
            return {"rows": stored, "file": None} if stored else None
        if not file.up_to_date:
            problems.append(f"{kind}: rows changed since the file was written")
        try:
            held = _read(self._pieces(file), kind, self._from, self._to)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            problems.append(f"{kind}: {file.path} cannot be read: {' '.join(str(error).split())[:300]}")
            return {"rows": stored, "file": asdict(file)}
        if held.pop("whole") != (file.rows, file.hash):
            problems.append(f"{kind}: {file.path} does not hold what was archived")
        if held["rows"] != (stored or 0):
            problems.append(f"{kind}: the candles are of {stored or 0} rows, the file has {held['rows']}")
        return held | {"file": asdict(file)}

    def _pieces(self, file: _File) -> Iterator[pa.Table]:
        return files.read(self._storage.open(file.path))

    def _named(self) -> dict[str, Any]:
        return {"instrument": self._instrument, "from": self._from, "to": self._to}


def _read(pieces: Iterator[pa.Table], kind: Kind, from_: datetime, to: datetime) -> dict[str, Any]:
    """Rows, hash and ranges of a day; `whole`: rows and hash of all that the file holds."""
    layout = LAYOUTS[kind]
    whole, of_day = RowsHash(layout), RowsHash(layout)
    times: list[datetime] = []
    ids: list[int] = []
    origins: Counter[str] = Counter()
    for piece in pieces:
        whole.update(piece)
        inside = pc.and_(pc.greater_equal(piece[layout.time], from_), pc.less(piece[layout.time], to))
        if not len(piece := piece.filter(inside)):
            continue
        of_day.update(piece)
        times += [piece[layout.time][0].as_py(), piece[layout.time][-1].as_py()]
        if kind == "trades":
            ids += pc.min_max(piece["trade_id"]).as_py().values()
            origins.update({one["values"]: one["counts"] for one in pc.value_counts(piece["origin"]).to_pylist()})
    made: dict[str, Any] = {
        "rows": of_day.rows,
        "hash": of_day.hexdigest(),
        "first_ts": min(times, default=None),
        "last_ts": max(times, default=None),
    }
    if kind == "trades":
        made |= {"first_id": min(ids, default=None), "last_id": max(ids, default=None)}
        made |= {"repaired": origins["repair"], "origins": dict(origins)}
    return made | {"whole": (whole.rows, whole.hexdigest())}

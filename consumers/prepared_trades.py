"""Checked trades of a batch: bad rows become dead letters, the others are stored with candles and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consumers.instruments import Instruments, Key
from consumers.live_delays import live_delays
from consumers.sink import DeadLetter, DeadLetters, MessageSlice, WriteResult, all_taken
from consumers.subscription import Message
from consumers.trade_block import TradeBlock
from consumers.trade_rows import TradeRows, encode, groups
from consumers.validation import time_ok
from pipeline.core.errors import BadData
from pipeline.core.products import ORIGINS
from pipeline.database.arrays import Array, parameters
from pipeline.database.connection import Connection
from pipeline.database.copy import Field, Int4, Int8, Ints, Time, write
from pipeline.database.copy import rows as copy_rows
from pipeline.database.sql import statement
from schemas import fields
from schemas.records import Hole, TradeRow, TradesMessage, decode_as

_COPY = """
    COPY trades (instrument_id, trade_id, ts, price, quantity, taker_side, origin) FROM STDIN (FORMAT BINARY)
"""
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_trades (
        row integer, instrument_id integer, trade_id bigint, ts timestamptz, price numeric, quantity numeric
    ) ON COMMIT DELETE ROWS
"""


class PreparedTrades:
    """Checked trades of a batch as columns; a `PreparedBatch`."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._instruments = instruments
        self._parts = parts
        self.letters = DeadLetters()
        self._findings: list[Finding] = []
        self._decoded: tuple[int, list[TradeRow]] | None = None
        for part in parts:
            if part.record.holes:
                self._check_findings(part)
        self._columns = TradeBlock.of_parts(parts)
        self._trades = self._columns.trades
        self._whose = np.repeat(np.arange(len(parts)), self._columns.count)  # row -> part
        keys = {names[:2]: Key(*names) for names in self._columns.names}
        self._keys = [keys[name] for name in sorted(keys)]
        self._check_trades()
        self.rows = int(self._good.sum())
        self._delays = live_delays(self._columns, self._whose, self._good)
        self._sort()
        # Encoded in the reading thread: in the storing thread every numpy call waits for the GIL (60 ms instead of 14).
        self._ids = instruments.known({key.name for key in self._keys})
        ready = self.rows and len(self._ids) == len(self._keys)
        self._encoded = self._encode(self._fresh, self._ids) if ready else None

    def _sort(self) -> None:
        """Sort the good rows by instrument and id: `_fresh` has the first row of each id, `_repeated` the others, which
        are compared with it."""
        place = {key.name: number for number, key in enumerate(self._keys)}
        places = np.array([place[names[:2]] for names in self._columns.names], dtype=np.int64)
        key = places[self._columns.name][self._whose]
        rows = np.flatnonzero(self._good)
        rows = rows[np.lexsort((self._trades.trade_id[rows], key[rows]))]  # stable
        repeated = np.zeros(len(rows), dtype=bool)
        repeated[1:] = (np.diff(key[rows]) == 0) & (np.diff(self._trades.trade_id[rows]) == 0)
        self._key, self._origin = key, self._columns.origin[self._whose]
        self._fresh, self._repeated = rows[~repeated], rows[repeated]

    def _check_findings(self, part: MessageSlice) -> None:
        """Check the findings of a part, which are numbered after its trades."""
        trades = part.record.count
        for row in range(max(part.first, trades), part.end):
            hole = part.record.holes[row - trades]
            try:
                fields.check("hole", hole)
                if hole.first_id > hole.last_id:
                    raise BadData("hole", f"first_id {hole.first_id} is above last_id {hole.last_id}")
                self._findings.append(Finding(part, row, hole))
            except BadData as error:
                self.letters.add(part.message, error.reason, f"finding: {error}", row, hole)

    def _check_trades(self) -> None:
        trades = self._trades
        checks: list[tuple[str, npt.NDArray[np.bool_]]] = [
            ("price", trades.price.ok() & trades.price.positive),
            ("quantity", trades.quantity.ok()),
            ("time", self._time_ok()),
            ("trade_id", fields.ID.good(trades.trade_id)),
        ]
        self._good = np.ones(len(trades), dtype=bool)
        for reason, ok in checks:
            if not ok.all():
                for row in np.flatnonzero(self._good & ~ok).tolist():
                    self._refuse(row, reason)
                self._good &= ok

    def _time_ok(self) -> npt.NDArray[np.bool_]:
        ok = time_ok(self._trades.timestamp_us, fields.latest_us("live"))
        if ok.all():
            return ok
        latest = np.array([fields.latest_us(origin) for origin in ORIGINS], dtype=np.int64)
        return time_ok(self._trades.timestamp_us, latest[self._columns.origin[self._whose]])

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            self._refuse(row, reason, detail)
        for finding in self._findings:
            self.letters.add(*finding.refused(reason, detail))
        self._findings = []
        self._good[:] = False
        self._fresh = self._repeated = np.zeros(0, dtype=np.int64)
        self._encoded = None
        self.rows = 0

    def _refuse(self, row: int, reason: str, detail: str = "") -> None:
        self.letters.add(*self._letter_of(row, reason, detail))

    def _letter_of(self, row: int, reason: str, detail: str) -> tuple[Message, str, str, int, Any]:
        number = int(self._whose[row])
        part = self._parts[number]
        problem = {
            "price": self._trades.price.problem.get(row, "zero"),
            "quantity": self._trades.quantity.problem.get(row),
        }
        text = detail or problem.get(reason) or f"{reason} out of range"
        inside = part.first + row - int(np.searchsorted(self._whose, number))
        return part.message, reason, text, inside, self._rows_of(number)[inside]

    def _rows_of(self, number: int) -> list[TradeRow]:
        """Return the trades of a part as received, for dead letters. The last part is cached: its rows are requested
        consecutively."""
        if self._decoded is None or self._decoded[0] != number:
            message = self._parts[number].message
            self._decoded = number, decode_as(TradesMessage, message.data, message.layout).trades
        return self._decoded[1]

    def store(self, conn: Connection) -> WriteResult:
        ids = self._instruments.ids(conn, self._keys)
        stored = WriteResult()
        with conn.transaction():
            known = self._find_stored(self._instruments.lock(conn, ids, "trades_lock", *self._id_ranges(ids)), ids)
            fresh = self._fresh[~known]
            if len(fresh):
                ready = ids == self._ids and not known.any()
                encoded = self._encoded if ready and self._encoded else self._encode(fresh, ids)
                cursor = conn.cursor()
                with cursor.copy(_COPY) as copy:
                    write(copy, [encoded.copy])
                all_taken(len(fresh), cursor.rowcount)
                conn.execute(statement("trades_store"), encoded.values | self._delays.values(ids))
                stored.rows = len(fresh)
            if stored.rows < self.rows:
                stored.letters = self._contradictions(conn, np.r_[self._fresh[known], self._repeated], ids)
            if self._findings:
                stored.letters += self._store_findings(conn, ids)
        return stored

    def _id_ranges(self, ids: dict[tuple[str, str], int]) -> list[Array]:
        """Return the batch's ids as ranges, for sql/trades_lock.sql."""
        if self._encoded and ids == self._ids:
            return [self._encoded.values[name] for name in ("run_of", "run_low", "run_high")]
        key, trade_id = self._key[self._fresh], self._trades.trade_id[self._fresh]
        none = np.zeros(0, dtype=np.int64)
        first, last = groups(np.diff(key) != 0, np.diff(trade_id) != 1) if len(key) else (none, none)
        instrument = self._instrument_ids(ids)[key[first]]
        columns: dict[str, Field] = {
            "instrument": Int4(instrument),
            "low": Int8(trade_id[first]),
            "high": Int8(trade_id[last] + 1),
        }
        return list(parameters(columns).values())

    def _instrument_ids(self, ids: dict[tuple[str, str], int]) -> Ints:
        """Return the instrument id of each key."""
        return np.array([ids[key.name] for key in self._keys], dtype=np.int64)

    def _find_stored(self, locked: list[Any], ids: dict[tuple[str, str], int]) -> npt.NDArray[np.bool_]:
        """Return which rows of `_fresh` the ledger contains already."""
        known = np.zeros(len(self._fresh), dtype=bool)
        ranges = {row[0]: row[3] for row in locked}
        for number, key in enumerate(self._keys):
            if found := ranges[ids[key.name]]:
                rows = np.flatnonzero(self._key[self._fresh] == number)
                trade_id = self._trades.trade_id[self._fresh[rows]]
                low, high = (np.array([getattr(one, end) for one in found]) for end in ("lower", "upper"))
                at = np.searchsorted(low, trade_id, side="right") - 1
                known[rows] = (at >= 0) & (trade_id < high[at])
        return known

    def _encode(self, rows: Ints, ids: dict[tuple[str, str], int]) -> TradeRows:
        return encode(self._trades, rows, self._instrument_ids(ids)[self._key[rows]], self._origin[rows])

    def _contradictions(self, conn: Connection, rows: Ints, ids: dict[tuple[str, str], int]) -> list[DeadLetter]:
        """Return dead letters for those of `rows`, all of whose ids are stored, that differ from the stored trade."""
        conn.execute(_STAGE)
        chosen = np.sort(rows)
        with conn.cursor().copy("COPY staged_trades FROM STDIN (FORMAT BINARY)") as copy:
            columns: list[Field] = [
                Int4(chosen),
                Int4(self._instrument_ids(ids)[self._key[chosen]]),
                Int8(self._trades.trade_id[chosen]),
                Time(self._trades.timestamp_us[chosen]),
                self._trades.price.column(chosen),
                self._trades.quantity.column(chosen),
            ]
            write(copy, [copy_rows(columns)])
        return [
            DeadLetter(
                *self._letter_of(row, "contradiction", f"stored with time {ts}, price {price}, quantity {quantity}")
            )
            for row, ts, price, quantity in conn.execute(statement("trades_contradictions"))
        ]

    def _store_findings(self, conn: Connection, ids: dict[tuple[str, str], int]) -> list[DeadLetter]:
        """Store the findings as claims; returns dead letters for those above the venue's newest known id."""
        found = self._findings
        claims = {
            "number": list(range(len(found))),
            "instrument": [ids[f.part.record.names[:2]] for f in found],
            "first": [f.hole.first_id for f in found],
            "last": [f.hole.last_id for f in found],
            "reason": [f.hole.reason for f in found],
            "confirmed_us": [f.hole.confirmed_at_us for f in found],
        }
        refused = conn.execute(statement("holes_ids_store"), claims).fetchall()
        return [
            DeadLetter(*found[number].refused("hole", f"finding: above the newest known id {newest}"))
            for number, newest in refused
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim that the venue does not have some ids. `row` is numbered after the trades of the message."""

    part: MessageSlice
    row: int
    hole: Hole

    def refused(self, reason: str, detail: str) -> tuple[Message, str, str, int, Any]:
        return self.part.message, reason, detail, self.row, self.hole

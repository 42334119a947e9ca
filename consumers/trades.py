"""Trades from topics into `trades`, with candles and ledger. `python -m consumers.trades`"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from consumers import fields
from consumers.instruments import Instruments, Key
from consumers.pgcopy import Int2, Int4, Int8, Time, rows, write
from consumers.sink import DeadLetter, DeadLetters, MessageSlice, WriteResult
from consumers.subscription import Message
from consumers.validation import Decimals, check_address, time_ok
from consumers.writer import run
from pipeline.core.errors import BadData
from pipeline.core.products import ORIGINS, TAKER_SIDES
from pipeline.core.runtime import program
from pipeline.database.connection import Connection
from pipeline.database.sql import statement
from schemas.records import Hole, TradeRow, TradesMessage, decode_as

_SIDE = {side: i for i, side in enumerate(TAKER_SIDES, 1)}  # as the arrays in trades_store.sql
_ORIGIN = {origin: i for i, origin in enumerate(ORIGINS, 1)}
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_trades (
        row integer, instrument_id integer, trade_id bigint, ts timestamptz, price numeric, quantity numeric,
        side smallint, origin smallint
    ) ON COMMIT DELETE ROWS
"""


class Trades:
    """Messages of `trades.avsc`: one source frame each. Its findings count as further rows behind the trades."""

    namespace = "trades"
    schema = "trades"
    divisible = True

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[TradesMessage, int]:
        """The record and how many rows it holds. Raises `BadData` for a message that is refused whole."""
        record = decode_as(TradesMessage, message.data, message.layout)
        check_address(message.topic, record.venue, record.product_id, record.asset_class)
        fields.check("trades", record)
        return record, len(record.trades) + len(record.holes)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTrades:
        return PreparedTrades(parts, self.instruments)


class PreparedTrades:
    """Checked trades of a batch as columns."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._instruments = instruments
        self._parts = parts
        trades: list[TradeRow] = []
        self._whose: list[int] = []  # row -> part
        self.letters = DeadLetters()
        self._findings: list[Finding] = []
        for number, part in enumerate(parts):
            taken = part.record.trades[part.first : part.end]
            trades += taken
            self._whose += [number] * len(taken)
            if part.record.holes:
                self._find(part)
        self._trades = trades
        self._keys = [Key(*names) for names in {_names(part.record) for part in parts}]
        self._check()
        self.rows = int(self._good.sum())
        # Made in the reading thread already: in the other one each call of numpy waits for its turn (60 ms, not 14).
        self._ids = instruments.known({key.name for key in self._keys})
        self._encoded = self._copy_rows(self._ids) if len(self._ids) == len(self._keys) else None

    def _find(self, part: MessageSlice) -> None:
        """The findings of a part: a claim is checked like a row."""
        trades = len(part.record.trades)
        for row in range(max(part.first, trades), part.end):
            hole = part.record.holes[row - trades]
            try:
                fields.check("hole", hole)
                if hole.first_id > hole.last_id:
                    raise BadData("hole", f"first_id {hole.first_id} is above last_id {hole.last_id}")
                self._findings.append(Finding(part, row, hole))
            except BadData as error:
                self.letters.add(part.message, error.reason, f"finding: {error}", row, hole)

    def _check(self) -> None:
        trades = self._trades
        self._id = np.fromiter((t.trade_id for t in trades), np.int64, len(trades))
        self._ts = np.fromiter((t.timestamp_us for t in trades), np.int64, len(trades))
        self._price = Decimals([t.price for t in trades])
        self._quantity = Decimals([t.quantity for t in trades])
        checks: list[tuple[str, npt.NDArray[np.bool_]]] = [
            ("price", self._price.ok() & self._price.positive),
            ("quantity", self._quantity.ok()),
            ("time", self._time_ok()),
            ("trade_id", fields.ID.good(self._id)),
        ]
        self._good = np.ones(len(trades), dtype=bool)
        for reason, ok in checks:
            if not ok.all():
                for row in np.flatnonzero(self._good & ~ok).tolist():
                    self._refuse(row, reason)
                self._good &= ok

    def _time_ok(self) -> npt.NDArray[np.bool_]:
        ok = time_ok(self._ts, fields.latest_us("live"))
        if ok.all():
            return ok
        latest = np.array([fields.latest_us(part.record.origin) for part in self._parts], dtype=np.int64)
        return time_ok(self._ts, latest[np.array(self._whose, dtype=np.int64)])

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            self._refuse(row, reason, detail)
        for finding in self._findings:
            self.letters.add(*finding.refused(reason, detail))
        self._findings = []
        self._good[:] = False
        self.rows = 0

    def _refuse(self, row: int, reason: str, detail: str = "") -> None:
        self.letters.add(*self._refused(row, reason, detail))

    def _refused(self, row: int, reason: str, detail: str) -> tuple[Message, str, str, int, Any]:
        number = self._whose[row]
        part = self._parts[number]
        problem = {"price": self._price.problem.get(row, "zero"), "quantity": self._quantity.problem.get(row)}
        text = detail or problem.get(reason) or f"{reason} out of range"
        inside = part.first + row - bisect_left(self._whose, number)
        return part.message, reason, text, inside, self._trades[row]

    def store(self, conn: Connection) -> WriteResult:
        ids = self._instruments.ids(conn, self._keys)
        conn.execute(_STAGE)
        with conn.transaction():
            self._instruments.lock(conn, ids, "trades_lock")
            stored = WriteResult()
            if self.rows:
                with conn.cursor().copy("COPY staged_trades FROM STDIN (FORMAT BINARY)") as copy:
                    known = self._encoded if ids == self._ids else None
                    write(copy, [known or self._copy_rows(ids)])
                found = conn.execute(statement("trades_store")).fetchone()
                stored.rows = found[0] if found else 0
                if stored.rows:
                    conn.execute(statement("holes_trim"))
                if stored.rows < self.rows:
                    stored.letters = self._contradictions(conn)
            if self._findings:
                stored.letters += self._claims(conn, ids)
        return stored

    def _copy_rows(self, ids: dict[tuple[str, str], int]) -> memoryview:
        good = self._good
        part_id = np.array([ids[_names(part.record)[:2]] for part in self._parts], dtype=np.int64)
        part_origin = np.array([_ORIGIN[part.record.origin] for part in self._parts], dtype=np.int64)
        whose = np.array(self._whose, dtype=np.int64)[good]
        side = np.fromiter((_SIDE[t.taker_side] for t in self._trades), np.int64, len(self._trades))
        return rows(
            [
                Int4(np.flatnonzero(good)),
                Int4(part_id[whose]),
                Int8(self._id[good]),
                Time(self._ts[good]),
                self._price.column(good),
                self._quantity.column(good),
                Int2(side[good]),
                Int2(part_origin[whose]),
            ]
        )

    def _contradictions(self, conn: Connection) -> list[DeadLetter]:
        return [
            DeadLetter(
                *self._refused(row, "contradiction", f"stored with time {ts}, price {price}, quantity {quantity}")
            )
            for row, ts, price, quantity in conn.execute(statement("trades_contradictions"))
        ]

    def _claims(self, conn: Connection, ids: dict[tuple[str, str], int]) -> list[DeadLetter]:
        """Store the findings; returns letters about those that reach above what is known of the venue."""
        found = self._findings
        claims = {
            "number": list(range(len(found))),
            "instrument": [ids[_names(f.part.record)[:2]] for f in found],
            "first": [f.hole.first_id for f in found],
            "last": [f.hole.last_id for f in found],
            "reason": [f.hole.reason for f in found],
            "confirmed_us": [f.hole.confirmed_at_us for f in found],
        }
        refused = conn.execute(statement("holes_ids_store"), claims).fetchall()
        return [
            DeadLetter(*found[number].refused("hole", f"finding: reaches above the newest id known, {newest}"))
            for number, newest in refused
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A message says that the venue does not have some ids. `row` counts on behind the trades of the message."""

    part: MessageSlice
    row: int
    hole: Hole

    def refused(self, reason: str, detail: str) -> tuple[Message, str, str, int, Any]:
        return self.part.message, reason, detail, self.row, self.hole


def _names(record: TradesMessage) -> tuple[str, str, str]:
    return record.venue, record.product_id, record.asset_class


@click.command()
@program("trades-writer")
def main() -> int:
    """Store trades from the topics `trades/*`; runs until stopped."""
    return run("trades-writer", [Trades()])


if __name__ == "__main__":
    main()

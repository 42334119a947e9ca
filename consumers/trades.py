"""`python -m consumers.trades`: store trades in `trades`, with candles and ledger."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from consumers import fields
from consumers.instruments import Instruments, Key
from consumers.live_delays import live_delays
from consumers.sink import (
    DeadLetter,
    DeadLetters,
    MessageSlice,
    WriteResult,
    hold_nothing,
    read_each,
)
from consumers.subscription import Message
from consumers.trade_block import MessageTrades, TradeBlock
from consumers.validation import check_address, time_ok
from consumers.writer import run
from pipeline.core.errors import BadData
from pipeline.core.products import ORIGINS
from pipeline.core.runtime import program
from pipeline.database.connection import Connection
from pipeline.database.copy import Int2, Int4, Int8, Time, rows, write
from pipeline.database.sql import statement
from schemas.records import Hole, TradeRow, TradesMessage, decode_as
from schemas.trade_columns import LEAST_MESSAGES, names_in, read_columns

_ORIGIN = {origin: i for i, origin in enumerate(ORIGINS, 1)}  # as in the array of trades_store.sql, like the sides
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_trades (
        row integer, instrument_id integer, trade_id bigint, ts timestamptz, price numeric, quantity numeric,
        side smallint, origin smallint
    ) ON COMMIT DELETE ROWS
"""


class Trades:
    """The sink of `trades.avsc`: one source frame per message. Its findings count as rows after the trades."""

    namespace = "trades"
    schema = "trades"
    divisible = True
    hold = staticmethod(hold_nothing)

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[MessageTrades, int]:
        """See `Sink.read`."""
        record = decode_as(TradesMessage, message.data, message.layout)
        check_address(message.topic, record.venue, record.product_id, record.asset_class)
        fields.check("trades", record)
        names = record.venue, record.product_id, record.asset_class
        block = TradeBlock.of_rows(record.trades)
        made = MessageTrades(names, record.origin, record.received_at_us, block, 0, len(record.trades), record.holes)
        return made, made.rows

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """See `Sink.read_all`. Plain messages are decoded all at once, the others one by one."""
        if len(messages) < LEAST_MESSAGES:
            return read_each(self.read, messages, letters)
        columns = read_columns([message.data if message.layout is None else b"" for message in messages])
        block = TradeBlock.of_columns(columns)
        plain = (columns.plain & fields.TIME.good(columns.received_at_us)).tolist()
        first = (np.cumsum(columns.count) - columns.count).tolist()
        numbers = columns.origin.tolist(), columns.received_at_us.tolist(), first, columns.count.tolist()
        found = zip(messages, plain, columns.names, *numbers, strict=True)
        parts: list[MessageSlice] = []
        for message, good, header, origin, received_us, row, count in found:
            if good and (names := _names(message.topic, header)):
                made = MessageTrades(names, ORIGINS[origin], received_us, block, row, count)
                parts.append(MessageSlice(message, made, 0, count))
            else:
                parts += read_each(self.read, [message], letters)
        return parts

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTrades:
        return PreparedTrades(parts, self.instruments)


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def _names(topic: str, header: bytes) -> tuple[str, str, str] | None:
    """Decode venue, product and asset class; None if they do not match the topic, so that `read` reports the error."""
    try:
        names = names_in(header)
        check_address(topic, *names)
    except (BadData, UnicodeDecodeError):
        return None
    return names


class PreparedTrades:
    """Checked trades of a batch as columns."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._instruments = instruments
        self._parts = parts
        self.letters = DeadLetters()
        self._findings: list[Finding] = []
        self._whose: list[int] = []  # row -> part
        self._decoded: tuple[int, list[TradeRow]] | None = None
        taken: list[tuple[TradeBlock, int, int]] = []
        for number, part in enumerate(parts):
            made: MessageTrades = part.record
            first, end = min(part.first, made.count), min(part.end, made.count)
            taken.append((made.block, made.first + first, made.first + end))
            self._whose += [number] * (end - first)
            if made.holes:
                self._find(part)
        self._trades = TradeBlock.joined(taken)
        self._keys = [Key(*names) for names in {part.record.names for part in parts}]
        self._check()
        self.rows = int(self._good.sum())
        whose = np.array(self._whose, dtype=np.int64)
        self._delays = live_delays(parts, whose, self._trades.timestamp_us, self._good)
        # Encoded in the reading thread: in the storing thread every numpy call waits for the GIL (60 ms instead of 14).
        self._ids = instruments.known({key.name for key in self._keys})
        self._encoded = self._copy_rows(self._ids) if len(self._ids) == len(self._keys) else None

    def _find(self, part: MessageSlice) -> None:
        """Check the claims of a part, like rows."""
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

    def _check(self) -> None:
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
        latest = np.array([fields.latest_us(part.record.origin) for part in self._parts], dtype=np.int64)
        return time_ok(self._trades.timestamp_us, latest[np.array(self._whose, dtype=np.int64)])

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
        problem = {
            "price": self._trades.price.problem.get(row, "zero"),
            "quantity": self._trades.quantity.problem.get(row),
        }
        text = detail or problem.get(reason) or f"{reason} out of range"
        inside = part.first + row - bisect_left(self._whose, number)
        return part.message, reason, text, inside, self._rows_of(number)[inside]

    def _rows_of(self, number: int) -> list[TradeRow]:
        """Return the trades of a part as received, for letters. Cached: rows of a part are requested consecutively."""
        if self._decoded is None or self._decoded[0] != number:
            message = self._parts[number].message
            self._decoded = number, decode_as(TradesMessage, message.data, message.layout).trades
        return self._decoded[1]

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
                    self._delays.store(conn, ids)
                    conn.execute(statement("holes_trim"))
                if stored.rows < self.rows:
                    stored.letters = self._contradictions(conn)
            if self._findings:
                stored.letters += self._claims(conn, ids)
        return stored

    def _copy_rows(self, ids: dict[tuple[str, str], int]) -> memoryview:
        good, trades = self._good, self._trades
        part_id = np.array([ids[part.record.names[:2]] for part in self._parts], dtype=np.int64)
        part_origin = np.array([_ORIGIN[part.record.origin] for part in self._parts], dtype=np.int64)
        whose = np.array(self._whose, dtype=np.int64)[good]
        return rows(
            [
                Int4(np.flatnonzero(good)),
                Int4(part_id[whose]),
                Int8(trades.trade_id[good]),
                Time(trades.timestamp_us[good]),
                trades.price.column(good),
                trades.quantity.column(good),
                Int2(trades.side[good] + 1),
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
        """Store the findings; returns letters for those above the venue's newest known id."""
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


@click.command()
@program("trades-writer")
def main() -> int:
    """Store trades from the topics `trades/*`; runs until stopped."""
    return run("trades-writer", [Trades()])


if __name__ == "__main__":
    main()

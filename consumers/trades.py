"""Trades from topics into `trades`, with candles and ledger. `python -m consumers.trades`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import schemas
from consumers.batch import Letter, Part, Stored
from consumers.checks import Decimals, check_address, time_ok
from consumers.inbox import Message
from consumers.instruments import Instruments, Key
from consumers.pgcopy import Int2, Int4, Int8, Time, rows, write
from consumers.writer import run
from pipeline.database import Connection
from pipeline.errors import BadData
from pipeline.process import now_us, program
from pipeline.products import ORIGINS, TAKER_SIDES
from pipeline.sql import statement

_SIDE = {side: i for i, side in enumerate(TAKER_SIDES, 1)}  # as the arrays in trades_store.sql
_ORIGIN = {origin: i for i, origin in enumerate(ORIGINS, 1)}
_HIGHEST_ID = 1 << 62
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_trades (
        row integer, instrument_id integer, trade_id bigint, ts timestamptz, price numeric, quantity numeric,
        side smallint, origin smallint
    ) ON COMMIT DELETE ROWS
"""


class Trades:
    """Messages of `trades.avsc`: one source frame each."""

    namespace = "trades"
    divisible = True

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[Any, int]:
        """The record and how many trades it holds. Raises `BadData` for a message that is refused whole."""
        try:
            record = schemas.decode("trades", message.data)
        except Exception as error:  # whatever a decoder raises on bytes that are no Avro
            raise BadData("schema", f"{type(error).__name__}: {error}") from None
        check_address(message.topic, record["venue"], record["product_id"])
        return record, len(record["trades"])

    def prepare(self, parts: Sequence[Part]) -> PreparedTrades:
        return PreparedTrades(parts, self.instruments)


class PreparedTrades:
    """Checked trades of a batch as columns."""

    def __init__(self, parts: Sequence[Part], instruments: Instruments) -> None:
        self._instruments = instruments
        self._parts = parts
        trades: list[dict[str, Any]] = []
        self._whose: list[int] = []  # row -> part
        for number, part in enumerate(parts):
            taken = part.record["trades"][part.first : part.end]
            trades += taken
            self._whose += [number] * len(taken)
        self._trades = trades
        self.letters: list[Letter] = []
        self._rejected: list[tuple[tuple[str, str], int]] = []
        self._keys = [Key(*names) for names in {_names(part.record) for part in parts}]
        self._check()
        self.rows = int(self._good.sum())
        # Made in the reading thread already: in the other one each call of numpy waits for its turn (60 ms, not 14).
        self._ids = instruments.known({key.name for key in self._keys})
        self._encoded = self._copy_rows(self._ids) if len(self._ids) == len(self._keys) else None

    def _check(self) -> None:
        trades = self._trades
        self._id = np.fromiter((t["trade_id"] for t in trades), np.int64, len(trades))
        self._ts = np.fromiter((t["timestamp_us"] for t in trades), np.int64, len(trades))
        self._price = Decimals([t["price"] for t in trades])
        self._quantity = Decimals([t["quantity"] for t in trades])
        checks: list[tuple[str, npt.NDArray[np.bool_]]] = [
            ("price", self._price.ok() & self._price.positive),
            ("quantity", self._quantity.ok()),
            ("time", time_ok(self._ts)),
            ("trade_id", (self._id >= 0) & (self._id < _HIGHEST_ID)),
        ]
        self._good = np.ones(len(trades), dtype=bool)
        for reason, ok in checks:
            for row in np.flatnonzero(self._good & ~ok):
                self._refuse(int(row), reason)
            self._good &= ok

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good):
            self._refuse(int(row), reason, detail)
        self._good[:] = False
        self.rows = 0

    def _refuse(self, row: int, reason: str, detail: str = "") -> None:
        part = self._parts[self._whose[row]]
        trade = self._trades[row]
        problem = {"price": self._price.problem.get(row, "zero"), "quantity": self._quantity.problem.get(row)}
        self.letters.append(
            Letter(
                part.message,
                reason,
                detail or problem.get(reason) or f"{reason} out of range",
                row=part.first + row - self._whose.index(self._whose[row]),
                content=trade,
            )
        )
        if reason != "trade_id":
            self._rejected.append((_names(part.record)[:2], trade["trade_id"]))

    def store(self, conn: Connection) -> Stored:
        ids = self._instruments.ids(conn, self._keys)
        mine = sorted(ids.values())
        conn.execute(_STAGE)
        with conn.transaction():
            locked = conn.execute(statement("trades_lock"), (mine,)).fetchall()
            if len(locked) != len(mine):
                self._instruments.forget()
                raise LookupError("the instruments of this batch are not in the database any more")
            stored = Stored()
            if self.rows:
                with conn.cursor().copy("COPY staged_trades FROM STDIN (FORMAT BINARY)") as copy:
                    known = self._encoded if ids == self._ids else None
                    write(copy, [known or self._copy_rows(ids)])
                found = conn.execute(statement("trades_store")).fetchone()
                stored.rows = found[0] if found else 0
                if stored.rows < self.rows:
                    stored.letters = self._contradictions(conn)
            self._holes(conn, ids)
        return stored

    def _copy_rows(self, ids: dict[tuple[str, str], int]) -> memoryview:
        good = self._good
        part_id = np.array([ids[_names(part.record)[:2]] for part in self._parts], dtype=np.int64)
        part_origin = np.array([_ORIGIN[part.record["origin"]] for part in self._parts], dtype=np.int64)
        whose = np.array(self._whose, dtype=np.int64)[good]
        side = np.fromiter((_SIDE[t["taker_side"]] for t in self._trades), np.int64, len(self._trades))
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

    def _contradictions(self, conn: Connection) -> list[Letter]:
        before = len(self.letters)
        for row, ts, price, quantity in conn.execute(statement("trades_contradictions")):
            self._refuse_stored(row, f"stored with time {ts}, price {price}, quantity {quantity}")
        found, self.letters = self.letters[before:], self.letters[:before]
        return found

    def _refuse_stored(self, row: int, detail: str) -> None:
        rejected = len(self._rejected)
        self._refuse(row, "contradiction", detail)
        del self._rejected[rejected:]  # the id is stored: no hole

    def _holes(self, conn: Connection, ids: dict[tuple[str, str], int]) -> None:
        """Findings of the messages, and ids whose rows were refused, so that nobody asks for them again."""
        now = now_us()
        found = [(ids[name], trade_id, trade_id, "rejected", now) for name, trade_id in self._rejected]
        for part in self._parts:
            if part.first == 0:
                found += [
                    (ids[_names(part.record)[:2]], h["first_id"], h["last_id"], h["reason"], h["confirmed_at_us"])
                    for h in part.record["holes"]
                ]
        if found:
            with conn.cursor() as cursor:
                cursor.executemany(statement("holes_ids_store"), found)


def _names(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["venue"], record["product_id"], record["asset_class"]


@click.command()
@program("trades-writer")
def main() -> int:
    """Store trades from the topics `trades/*`; runs until stopped."""
    return run("trades-writer", [Trades()])


if __name__ == "__main__":
    main()

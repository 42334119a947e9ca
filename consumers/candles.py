"""Candles of exchanges into `exchange_candles`, with the consensus and the state. `python -m consumers.candles`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import schemas
from consumers import consensus
from consumers.batch import Letter, Part, Stored
from consumers.checks import Decimals, check_address, time_ok
from consumers.inbox import Message
from consumers.instruments import Instruments, Key
from consumers.pgcopy import Int2, Int4, Time, rows, write
from consumers.writer import run
from pipeline.database import Connection
from pipeline.errors import BadData
from pipeline.process import program
from pipeline.sql import statement

_PRICES = ("open", "high", "low", "close")
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_candles (
        instrument_id integer, granularity_s integer, bucket timestamptz,
        open numeric, high numeric, low numeric, close numeric, volume numeric, final smallint, as_of timestamptz
    ) ON COMMIT DELETE ROWS
"""


class Candles:
    """Messages of `candles.avsc`: one answer or frame each."""

    namespace = "candles"
    divisible = True

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[Any, int]:
        """The record and how many candles it holds. Raises `BadData` for a message that is refused whole."""
        try:
            record = schemas.decode("candles", message.data)
        except Exception as error:  # whatever a decoder raises on bytes that are no Avro
            raise BadData("schema", f"{type(error).__name__}: {error}") from None
        check_address(message.topic, record["venue"], record["product_id"])
        if record["granularity_s"] <= 0:
            raise BadData("granularity", f"{record['granularity_s']} s")
        if record["quorum"]:
            consensus.check_quorum(record["quorum"])
        span = np.array([record["as_of_us"], record["covered_from_us"] or record["as_of_us"]], dtype=np.int64)
        if not time_ok(span).all() or (record["covered_to_us"] or 0) > record["as_of_us"]:
            raise BadData("time", "as_of or the covered span is out of range")
        return record, len(record["candles"])

    def prepare(self, parts: Sequence[Part]) -> PreparedCandles:
        return PreparedCandles(parts, self.instruments)


class PreparedCandles:
    """Checked candles of a batch as columns."""

    def __init__(self, parts: Sequence[Part], instruments: Instruments) -> None:
        self._parts = parts
        self._instruments = instruments
        self.letters: list[Letter] = []
        candles: list[dict[str, Any]] = []
        whose: list[int] = []  # row -> part
        for number, part in enumerate(parts):
            taken = part.record["candles"][part.first : part.end]
            candles += taken
            whose += [number] * len(taken)
        self._candles, self._whose = candles, np.array(whose, dtype=np.int64)
        self._bucket = np.fromiter((c["bucket_us"] for c in candles), np.int64, len(candles))
        self._values = {name: Decimals([c[name] for c in candles]) for name in (*_PRICES, "volume")}
        self._good = np.ones(len(candles), dtype=bool)
        self._refuse("price", *(self._values[name].ok() & self._values[name].positive for name in _PRICES))
        self._refuse("volume", self._values["volume"].ok())
        self._refuse("time", time_ok(self._bucket))
        self.rows = int(self._good.sum())

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            self._letter(row, reason, detail)
        self._good[:] = False
        self.rows = 0

    def _refuse(self, reason: str, *oks: npt.NDArray[np.bool_]) -> None:
        ok = np.logical_and.reduce(oks)
        for row in np.flatnonzero(self._good & ~ok).tolist():
            problems = "; ".join(f"{name}: {v.problem[row]}" for name, v in self._values.items() if row in v.problem)
            self._letter(row, reason, problems or f"{reason} out of range")
        self._good &= ok

    def _letter(self, row: int, reason: str, detail: str) -> None:
        number = int(self._whose[row])
        part = self._parts[number]
        inside = part.first + row - int(np.searchsorted(self._whose, number))
        self.letters.append(Letter(part.message, reason, detail, inside, self._candles[row]))

    def store(self, conn: Connection) -> Stored:
        records = [part.record for part in self._parts]
        ids = self._instruments.ids(conn, {Key(r["venue"], r["product_id"], r["asset_class"]) for r in records})
        conn.execute(_STAGE)
        consensus.prepare(conn)
        stored = Stored()
        with conn.transaction():
            consensus.lock_products(conn, {r["product_id"] for r in records})
            self._check_instruments(conn, sorted(ids.values()))
            consensus.store_quorums(conn, records)
            if self.rows:
                with conn.cursor().copy("COPY staged_candles FROM STDIN (FORMAT BINARY)") as copy:
                    write(copy, [self._copy_rows(ids)])
                found = conn.execute(statement("candles_store")).fetchone()
                stored.rows = found[0] if found else 0
            consensus.store(conn)
            self._advance(conn, ids)
        return stored

    def _check_instruments(self, conn: Connection, mine: list[int]) -> None:
        """They are remembered; the database may be another one since. KEY SHARE does not hold up other writers."""
        query = "SELECT 1 FROM instruments WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR KEY SHARE"
        if len(conn.execute(query, (mine,)).fetchall()) != len(mine):
            self._instruments.forget()
            raise LookupError("the instruments of this batch are not in the database any more")

    def _copy_rows(self, ids: dict[tuple[str, str], int]) -> memoryview:
        good, records = self._good, [part.record for part in self._parts]
        whose = self._whose[good]
        instrument = np.array([ids[r["venue"], r["product_id"]] for r in records], dtype=np.int64)
        granularity = np.array([r["granularity_s"] for r in records], dtype=np.int64)
        as_of = np.array([r["as_of_us"] for r in records], dtype=np.int64)
        final = np.fromiter((c["final"] for c in self._candles), np.int64, len(self._candles))
        return rows(
            [
                Int4(instrument[whose]),
                Int4(granularity[whose]),
                Time(self._bucket[good]),
                *(self._values[name].column(good) for name in (*_PRICES, "volume")),
                Int2(final[good]),
                Time(as_of[whose]),
            ]
        )

    def _advance(self, conn: Connection, ids: dict[tuple[str, str], int]) -> None:
        """The state moves with the last candles of the message that says so, never before them."""
        spans = [
            {
                "state": record["state"],
                "instrument": ids[record["venue"], record["product_id"]],
                "granularity_s": record["granularity_s"],
                "from_us": record["covered_from_us"],
                "to_us": record["covered_to_us"],
            }
            for part in self._parts
            if (record := part.record)["state"] and part.end == len(record["candles"])
            and record["covered_from_us"] is not None and record["covered_from_us"] < (record["covered_to_us"] or 0)
        ]  # fmt: skip
        if spans:
            with conn.cursor() as cursor:
                cursor.executemany(statement("candles_state"), spans)


@click.command()
@program("candles-writer")
def main() -> int:
    """Store candles of exchanges from the topics `candles/*`, and keep the consensus; runs until stopped."""
    consensus.Sweeper().start()
    return run("candles-writer", [Candles()])


if __name__ == "__main__":
    main()

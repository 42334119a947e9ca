"""`python -m consumers.candles`: store candles of exchanges in `exchange_candles`, with consensus and state."""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np
import numpy.typing as npt
from msgspec import structs

from consumers import consensus
from consumers.instruments import Instruments, Key
from consumers.sink import DeadLetters, MessageSlice, WriteResult, all_taken, hold_nothing, read_each
from consumers.subscription import Message
from consumers.validation import Decimals, time_ok
from consumers.writer import run
from pipeline.broker.topics import check_address
from pipeline.core.errors import BadData
from pipeline.core.runtime import program
from pipeline.database.connection import Connection
from pipeline.database.copy import Int2, Int4, Time, rows, write
from pipeline.database.sql import statement
from schemas import fields
from schemas.records import CandleRow, CandlesMessage, decode_as

_PRICES = ("open", "high", "low", "close")
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_candles (
        instrument_id integer, granularity_s integer, bucket timestamptz,
        open numeric, high numeric, low numeric, close numeric, volume numeric, final smallint, as_of timestamptz
    ) ON COMMIT DELETE ROWS
"""
DAY_S = 86_400  # candles of up to a day start at multiples of their width; weeks and months vary by exchange


class Candles:
    """The sink of `candles.avsc`: one answer or frame per message. Its statement (state, quorum) counts as its last
    row."""

    namespace = "candles"
    schema = "candles"
    divisible = True
    hold = staticmethod(hold_nothing)

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[CandlesMessage, int]:
        """See `Sink.read`."""
        record = decode_as(CandlesMessage, message.data, message.layout)
        check_address(message.topic, record.venue, record.product_id, record.asset_class)
        fields.check("candles", record)
        fields.check_ahead("as_of_us", record.as_of_us)
        return record, len(record.candles) + 1

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        return read_each(self.read, messages, letters)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedCandles:
        return PreparedCandles(parts, self.instruments)


def _check_statement(record: CandlesMessage) -> None:
    """Raise `BadData` for an invalid state or quorum."""
    fields.check("statement", record)
    if (record.covered_to_us or 0) > record.as_of_us:
        raise BadData("time", "the covered interval ends after the message's as_of_us")
    if record.quorum:
        consensus.check_quorum(record.quorum)


class PreparedCandles:
    """Checked candles of a batch as columns."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._parts = parts
        self._instruments = instruments
        self.letters = DeadLetters()
        candles: list[CandleRow] = []
        whose: list[int] = []  # row -> part
        for number, part in enumerate(parts):
            taken = part.record.candles[part.first : part.end]
            candles += taken
            whose += [number] * len(taken)
        self._candles, self._whose = candles, np.array(whose, dtype=np.int64)
        self._bucket = np.fromiter((c.bucket_us for c in candles), np.int64, len(candles))
        self._values = {name: Decimals.of_texts([getattr(c, name) for c in candles]) for name in (*_PRICES, "volume")}
        self._good = np.ones(len(candles), dtype=bool)
        self._refuse("price", *(self._values[name].ok() & self._values[name].positive for name in _PRICES))
        self._refuse("volume", self._values["volume"].ok())
        self._refuse("time", time_ok(self._bucket, fields.latest_us("live")))
        width_s = np.array([part.record.granularity_s for part in parts], dtype=np.int64)[self._whose]
        self._refuse("bucket", (width_s > DAY_S) | (self._bucket % (width_s * 1_000_000) == 0))
        self.rows = int(self._good.sum())
        self._statements = [part for part in parts if part.end > len(part.record.candles) and self._has_statement(part)]

    def _has_statement(self, part: MessageSlice) -> bool:
        """Return whether the message has a valid statement; an invalid one becomes a dead letter."""
        try:
            _check_statement(part.record)
        except BadData as error:
            self._refuse_statement(part, error.reason, str(error))
            return False
        return bool(part.record.state or part.record.quorum)

    def _refuse_statement(self, part: MessageSlice, reason: str, detail: str) -> None:
        content = structs.replace(part.record, candles=[])
        self.letters.add(part.message, reason, detail, len(part.record.candles), content)

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            self._letter(row, reason, detail)
        for part in self._statements:
            self._refuse_statement(part, reason, detail)
        self._statements = []
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
        part.record.state = None  # the state must not advance past a candle that has to be fetched again
        inside = part.first + row - int(np.searchsorted(self._whose, number))
        self.letters.add(part.message, reason, detail, inside, self._candles[row])

    def store(self, conn: Connection) -> WriteResult:
        records: list[CandlesMessage] = [part.record for part in self._parts]
        ids = self._instruments.ids(conn, {Key(r.venue, r.product_id, r.asset_class) for r in records})
        conn.execute(_STAGE)
        consensus.prepare(conn)
        stored = WriteResult()
        with conn.transaction():
            consensus.lock_products(conn, {r.product_id for r in records})
            self._instruments.lock(conn, ids, "instruments_share")
            consensus.store_quorums(conn, [part.record for part in self._statements])
            if self.rows:
                with conn.cursor().copy("COPY staged_candles FROM STDIN (FORMAT BINARY)") as copy:
                    write(copy, [self._copy_rows(ids)])
                found = conn.execute(statement("candles_store")).fetchone()
                assert found is not None  # an aggregate without GROUP BY has one row
                stored.rows, fresh, taken = found
                all_taken(fresh, taken)
            consensus.store(conn)
            self._advance(conn, ids)
        return stored

    def _copy_rows(self, ids: dict[tuple[str, str], int]) -> memoryview:
        good = self._good
        records: list[CandlesMessage] = [part.record for part in self._parts]
        whose = self._whose[good]
        instrument = np.array([ids[r.venue, r.product_id] for r in records], dtype=np.int64)
        granularity = np.array([r.granularity_s for r in records], dtype=np.int64)
        as_of = np.array([r.as_of_us for r in records], dtype=np.int64)
        final = np.fromiter((c.final for c in self._candles), np.int64, len(self._candles))
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
        """Advance the states that messages carry, each together with the last candles of its message, never earlier."""
        spans = [
            {
                "state": record.state,
                "instrument": ids[record.venue, record.product_id],
                "granularity_s": record.granularity_s,
                "from_us": record.covered_from_us,
                "to_us": record.covered_to_us,
            }
            for part in self._statements
            if (record := part.record).state
            and record.covered_from_us is not None
            and record.covered_from_us < (record.covered_to_us or 0)
        ]
        if spans:
            with conn.cursor() as cursor:
                cursor.executemany(statement("candles_state"), spans)


@click.command()
@program("candles-writer")
def main() -> int:
    """Store candles from the topics `candles/*` and maintain the consensus; runs until stopped."""
    sweeper = consensus.Sweeper()
    sweeper.start()
    return run("candles-writer", [Candles()], [sweeper.why])


if __name__ == "__main__":
    main()

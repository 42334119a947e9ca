"""Store live tickers (best bid and ask) in `quotes`, with candles. The key is (instrument, time, seq)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consumers import fields
from consumers.instruments import Instruments, Key
from consumers.sink import DeadLetters, MessageSlice, WriteResult, hold_nothing, read_each
from consumers.subscription import Message
from consumers.validation import Decimals, check_address, time_ok
from pipeline.core.runtime import now_us
from pipeline.database.connection import Connection
from pipeline.database.copy import Int4, Time, rows, write
from pipeline.database.sql import statement
from schemas.records import TickerMessage, decode_as

_PRICES = ("bid", "ask")
_SIZES = ("bid_size", "ask_size")
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_tickers (
        row integer, instrument_id integer, ts timestamptz, seq integer,
        bid numeric, ask numeric, bid_size numeric, ask_size numeric
    ) ON COMMIT DELETE ROWS
"""


class Tickers:
    """The sink of `ticker.avsc`: one row per message."""

    namespace = "tickers"
    schema = "ticker"
    divisible = True
    hold = staticmethod(hold_nothing)

    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments or Instruments()

    def read(self, message: Message) -> tuple[TickerMessage, int]:
        record = decode_as(TickerMessage, message.data, message.layout)
        check_address(message.topic, record.venue, record.product_id, record.asset_class)
        fields.check("ticker", record)
        return record, 1

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        return read_each(self.read, messages, letters)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTickers:
        return PreparedTickers(parts, self.instruments)


class PreparedTickers:
    """Checked tickers of a batch as columns."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._parts = parts
        self._instruments = instruments
        self.letters = DeadLetters()
        records: list[TickerMessage] = [part.record for part in parts]
        self._ts = np.fromiter((r.timestamp_us for r in records), np.int64, len(records))
        self._seq = np.fromiter((r.seq for r in records), np.int64, len(records))
        self._values = {name: Decimals.of_texts([getattr(r, name) for r in records]) for name in _PRICES + _SIZES}
        self._good = np.ones(len(records), dtype=bool)
        time_good = time_ok(self._ts, np.array([fields.latest_us(r.origin) for r in records], dtype=np.int64))
        checks = [("time", time_good), ("seq", fields.SEQ.good(self._seq))]
        checks += [("price", self._values[name].ok() & self._values[name].positive) for name in _PRICES]
        checks += [("size", self._values[name].ok()) for name in _SIZES]
        for reason, ok in checks:
            for row in np.flatnonzero(self._good & ~ok).tolist():
                detail = "; ".join(v.problem[row] for v in self._values.values() if row in v.problem)
                self.letters.add(parts[row].message, reason, detail or f"{reason} out of range", 0, records[row])
            self._good &= ok
        self.rows = int(self._good.sum())
        self._missed: list[tuple[int, int]] = []  # row, since when tickers were missed
        for row, record in enumerate(records):
            since = record.missed_since_us
            # Valid even if the ticker itself is refused.
            if since is None or not time_good[row]:
                continue
            if since and (problem := fields.TIME.problem(since)):
                self.letters.add(parts[row].message, "time", f"missed_since_us: {problem}", 0, record)
            else:
                self._missed.append((row, since))

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            part = self._parts[row]
            self.letters.add(part.message, reason, detail, 0, part.record)
        self._good[:] = False
        self._missed = []
        self.rows = 0

    def store(self, conn: Connection) -> WriteResult:
        keys = [Key(r.venue, r.product_id, r.asset_class) for r in (part.record for part in self._parts)]
        ids = self._instruments.ids(conn, set(keys))
        row_ids = np.array([ids[key.venue, key.product_id] for key in keys], dtype=np.int64)
        conn.execute(_STAGE)
        stored = WriteResult()
        with conn.transaction():
            self._instruments.lock(conn, ids, "instruments_lock")
            if self.rows:
                good = self._good
                keys_of_rows = (
                    Int4(np.flatnonzero(good)),
                    Int4(row_ids[good]),
                    Time(self._ts[good]),
                    Int4(self._seq[good]),
                )
                columns = rows([*keys_of_rows, *(self._values[name].column(good) for name in _PRICES + _SIZES)])
                with conn.cursor().copy("COPY staged_tickers FROM STDIN (FORMAT BINARY)") as copy:
                    write(copy, [columns])
                found = conn.execute(statement("tickers_store")).fetchone()
                stored.rows = found[0] if found else 0
            for row, since in self._missed:
                span = {"instrument": int(row_ids[row]), "since": since, "until": int(self._ts[row]), "now": now_us()}
                conn.execute(statement("tickers_missed_store"), span)
        return stored

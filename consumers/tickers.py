"""Tickers (best bid and ask, live) into `quotes`, with candles. The key (instrument, time, seq) decides what is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import schemas
from consumers.batch import Letter, Part, Stored
from consumers.checks import Decimals, check_address, time_ok
from consumers.inbox import Message
from consumers.instruments import Instruments, Key
from consumers.pgcopy import Int4, Time, rows, write
from pipeline.database import Connection
from pipeline.errors import BadData
from pipeline.process import now_us
from pipeline.sql import statement

_PRICES = ("bid", "ask")
_SIZES = ("bid_size", "ask_size")
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS staged_tickers (
        row integer, instrument_id integer, ts timestamptz, seq integer,
        bid numeric, ask numeric, bid_size numeric, ask_size numeric
    ) ON COMMIT DELETE ROWS
"""


class Tickers:
    """Messages of `ticker.avsc`: one row each."""

    namespace = "tickers"
    divisible = True

    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments or Instruments()

    def read(self, message: Message) -> tuple[dict[str, Any], int]:
        try:
            record = schemas.decode("ticker", message.data)
        except Exception as error:  # whatever a decoder raises on bytes that are no Avro
            raise BadData("schema", f"{type(error).__name__}: {error}") from None
        check_address(message.topic, record["venue"], record["product_id"])
        return record, 1

    def prepare(self, parts: Sequence[Part]) -> PreparedTickers:
        return PreparedTickers(parts, self.instruments)


class PreparedTickers:
    """Checked tickers of a batch as columns."""

    def __init__(self, parts: Sequence[Part], instruments: Instruments) -> None:
        self._parts = parts
        self._instruments = instruments
        self.letters: list[Letter] = []
        records = [part.record for part in parts]
        self._ts = np.fromiter((r["timestamp_us"] for r in records), np.int64, len(records))
        self._seq = np.fromiter((r["seq"] for r in records), np.int64, len(records))
        self._values = {name: Decimals([r[name] for r in records]) for name in _PRICES + _SIZES}
        self._good = np.ones(len(records), dtype=bool)
        checks = [("time", time_ok(self._ts)), ("seq", self._seq >= 0)]
        checks += [("price", self._values[name].ok() & self._values[name].positive) for name in _PRICES]
        checks += [("size", self._values[name].ok()) for name in _SIZES]
        for reason, ok in checks:
            for row in np.flatnonzero(self._good & ~ok).tolist():
                detail = "; ".join(v.problem[row] for v in self._values.values() if row in v.problem)
                self.letters.append(
                    Letter(parts[row].message, reason, detail or f"{reason} out of range", 0, records[row])
                )
            self._good &= ok
        self.rows = int(self._good.sum())

    def refuse(self, reason: str, detail: str) -> None:
        for row in np.flatnonzero(self._good).tolist():
            part = self._parts[row]
            self.letters.append(Letter(part.message, reason, detail, 0, part.record))
        self._good[:] = False
        self.rows = 0

    def store(self, conn: Connection) -> Stored:
        keys = [Key(r["venue"], r["product_id"], r["asset_class"]) for r in (part.record for part in self._parts)]
        ids = self._instruments.ids(conn, set(keys))
        row_ids = np.array([ids[key.venue, key.product_id] for key in keys], dtype=np.int64)
        conn.execute(_STAGE)
        stored = Stored()
        with conn.transaction():
            mine = sorted(ids.values())
            if len(conn.execute(statement("instruments_lock"), (mine,)).fetchall()) != len(mine):
                self._instruments.forget()
                raise LookupError("the instruments of this batch are not in the database any more")
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
            self._missed(conn, row_ids)
        return stored

    def _missed(self, conn: Connection, row_ids: Any) -> None:
        """Time in which nobody listened is listed. A producer that was just started does not know since when."""
        now = now_us()
        for i, part in enumerate(self._parts):
            since, until = part.record["missed_since_us"], part.record["timestamp_us"]
            if since is None or not self._good[i]:
                continue
            span = {"instrument": int(row_ids[i]), "since": since, "until": until, "now": now}
            conn.execute(statement("tickers_missed_store"), span)

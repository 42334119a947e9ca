"""Hours of quotes into `quotes`, `quote_candle_*` and the ledger `quote_hours`.

An hour is whole: it is stored, replaced or left alone as one. Which of two hours wins does not depend on the order
in which they arrive (`wins`). Because the ledger has decided before, rows go straight into the tables by COPY
(measured: 0.8 M rows/s, against 0.55 M through a temporary table), and the candles, which an hour determines
completely, are made by numpy from the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consumers import hour_rows
from consumers.batch import Letter, Part, Stored
from consumers.checks import AHEAD_US, OLDEST_US, check_address
from consumers.inbox import Message
from consumers.instruments import Instruments, Key
from consumers.pgcopy import write
from pipeline.database import Connection
from pipeline.errors import BadData
from pipeline.ledger import Hour, from_us, to_us
from pipeline.process import now_us
from pipeline.sql import statement
from schemas.columns import COLUMNS, QuoteHour, decode_quote_hour

HOUR_US = 3_600_000_000
HOUR_MS = 3_600_000
MAX_PRICE = 10**15 - 1
MAY_BE_NEGATIVE = ("commodity",)  # oil has traded below zero
_COPY_QUOTES = "COPY quotes (instrument_id, ts, seq, bid, ask, bid_size, ask_size) FROM STDIN (FORMAT BINARY)"
_COPY_CANDLES = {
    table: f"""
    COPY {table} (instrument_id, bucket, open, high, low, close, ask_open, ask_high, ask_low, ask_close,
                  bid_size, ask_size, spread_sum, ticks, first_ts, first_seq, last_ts, last_seq)
    FROM STDIN (FORMAT BINARY)"""
    for table in hour_rows.WIDTHS_MS
}
Name = tuple[str, str, int]  # venue, product, hour in µs
_RANK = {"present": 3, "partial": 2, "confirmed_empty": 1, "closed": 1, "seen_empty": 0}


@dataclass(frozen=True)
class Candidate:
    """An hour as a message tells it, after its rows were checked."""

    key: Key
    hour: Hour
    columns: QuoteHour  # good rows only
    seq: npt.NDArray[np.int64]


def state_of(header: dict[str, Any]) -> str:
    """The ledger's state for a message's status."""
    if header["status"] in ("ticks", "partial"):
        return "present" if header["status"] == "ticks" else "partial"
    if header["feed"] == "calendar":
        return "closed"
    return "confirmed_empty" if header["final"] else "seen_empty"


def wins(new: Hour, old: Hour) -> bool:
    """Whether `new` is to be stored in place of `old`. A total order, so that the order of arrival does not matter.

    Quotes beat emptiness, a finished hour beats a running one, a later fetch beats an earlier one. The two feeds
    agree in time, bid and ask but bi5's sizes are rounded by the vendor, so of equal content JSON's is kept.
    """
    if _RANK[new.state] != _RANK[old.state]:
        return _RANK[new.state] > _RANK[old.state]
    if new.state == "seen_empty":
        return False  # the first sighting counts: the second must lie some time after it
    if same_content(new, old):
        return new.feed == "json" and old.feed != "json"
    return (new.fetched_at_us, new.feed == "json", new.checksum) > (old.fetched_at_us, old.feed == "json", old.checksum)


def same_content(new: Hour, old: Hour) -> bool:
    return new.state == old.state and new.checksum == old.checksum and new.ticks == old.ticks


class Hours:
    """Messages of `quotes.avsc`."""

    namespace = "quotes"
    divisible = False

    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments or Instruments()

    def read(self, message: Message) -> tuple[QuoteHour, int]:
        hour = decode_quote_hour(message.data)
        header = hour.header
        check_address(message.topic, header["venue"], header["product_id"])
        if header["hour_start_us"] % HOUR_US or not OLDEST_US <= header["hour_start_us"] <= now_us() + AHEAD_US:
            raise BadData("time", f"hour_start_us {header['hour_start_us']} is no whole hour between 2000 and now")
        if not (0 <= header["price_scale"] <= 12 and 0 <= header["size_scale"] <= 12):
            raise BadData("scale", f"scales {header['price_scale']}, {header['size_scale']} are not within 0..12")
        if len(hour) and header["status"] not in ("ticks", "partial"):
            raise BadData("status", f"an hour with status {header['status']} holds {len(hour)} quotes")
        return hour, len(hour)

    def prepare(self, parts: Sequence[Part]) -> PreparedHours:
        return PreparedHours(parts, self.instruments)


class PreparedHours:
    """Checked hours of a batch; of several messages about one hour only the winner is kept."""

    def __init__(self, parts: Sequence[Part], instruments: Instruments) -> None:
        self._instruments = instruments
        self.letters: list[Letter] = []
        self._winners: dict[Name, Candidate] = {}
        self._messages: dict[Name, Message] = {}
        self._refused: list[tuple[Key, int]] = []  # instants of refused rows
        for part in parts:
            found = self._check(part)
            name = (found.key.venue, found.key.product_id, found.hour.hour_us)
            before = self._winners.get(name)
            if before is None or wins(found.hour, before.hour):
                self._winners[name] = found
                self._messages[name] = part.message
        self.rows = sum(len(c.columns) for c in self._winners.values())
        # Made in the reading thread already, while the database has the batch before: 5 % more quotes a second.
        self._places = _filled(self._winners, instruments.known({name[:2] for name in self._winners}))
        self._encoded = self._encode(self._places)

    def refuse(self, reason: str, detail: str) -> None:
        """An hour is whole: it is refused as one and stays unknown to the ledger, so that it is asked for again."""
        self.letters += [Letter(message, reason, detail) for message in self._messages.values()]
        self._winners.clear()
        self.rows = 0

    def _check(self, part: Part) -> Candidate:
        quotes: QuoteHour = part.record
        header = quotes.header
        key = Key(header["venue"], header["product_id"], header["asset_class"], header["price_scale"])
        kept = self._good_rows(part, key)
        if (kept.offset_ms[1:] < kept.offset_ms[:-1]).any():
            kept = _chosen(kept, np.argsort(kept.offset_ms, kind="stable"))
        hour = Hour(
            header["hour_start_us"], state_of(header), len(kept), header["feed"], header["fetched_at_us"],
            header["checksum"], 0,
        )  # fmt: skip
        return Candidate(key, hour, kept, _running_number(kept.offset_ms))

    def _good_rows(self, part: Part, key: Key) -> QuoteHour:
        """The rows that may be stored; the others get their letters."""
        quotes: QuoteHour = part.record
        lowest = -MAX_PRICE if key.asset_class in MAY_BE_NEGATIVE else 1
        bounds = (
            ("time", quotes.offset_ms, 0, HOUR_MS - 1),
            ("price", quotes.bid, lowest, MAX_PRICE),
            ("price", quotes.ask, lowest, MAX_PRICE),
            ("size", quotes.bid_size, 0, None),
            ("size", quotes.ask_size, 0, None),
        )
        if not len(quotes) or all(low <= c.min() and (high is None or c.max() <= high) for _, c, low, high in bounds):
            return quotes  # the usual case, told by the extremes alone
        good = np.ones(len(quotes), dtype=bool)
        for reason, column, low, high in bounds:
            ok = (column >= low) & (True if high is None else column <= high)
            for row in np.flatnonzero(good & ~ok):
                content = {name: int(getattr(quotes, name)[row]) for name in COLUMNS}
                self.letters.append(Letter(part.message, reason, f"{reason} out of range", int(row), content))
                if 0 <= content["offset_ms"] < HOUR_MS:
                    self._refused.append((key, quotes.header["hour_start_us"] + content["offset_ms"] * 1000))
            good &= ok
        return _chosen(quotes, good)

    def store(self, conn: Connection) -> Stored:
        stored = Stored()
        wanted = self._fitting_scale(conn, stored)
        if not wanted:
            return stored
        ids = self._instruments.ids(conn, [c.key for c in wanted.values()])
        with conn.transaction():
            mine = sorted(set(ids.values()))
            if len(conn.execute(statement("instruments_lock"), (mine,)).fetchall()) != len(mine):
                self._instruments.forget()
                raise LookupError("the instruments of this batch are not in the database any more")
            known = _known_hours(conn, [(ids[n[:2]], n[2]) for n in wanted])
            fresh: dict[Name, Candidate] = {}
            ledger: list[tuple[Any, ...]] = []
            for name, candidate in wanted.items():
                place = (ids[name[:2]], candidate.hour.hour_us)
                old = known.get(place)
                row = _ledger_row(place[0], candidate, old)
                if row is not None:
                    ledger.append(row)
                if old is None or wins(candidate.hour, old):
                    fresh[name] = candidate
                    if old is not None and old.ticks:
                        _clear(conn, place)
            stored.rows = sum(len(c.columns) for c in fresh.values())
            self._copy(conn, fresh, ids)
            with conn.cursor() as cursor:
                if ledger:
                    cursor.executemany(statement("quote_hours_store"), ledger)
                now = now_us()
                refused = [
                    (ids[key.venue, key.product_id], at, at + 1000, "rejected", now)
                    for key, at in self._refused
                    if (key.venue, key.product_id) in ids
                ]
                if refused:
                    cursor.executemany(statement("holes_time_store"), refused)
        return stored

    def _fitting_scale(self, conn: Connection, stored: Stored) -> dict[Name, Candidate]:
        """Without the hours whose price scale is not the instrument's: a wrong one would be a factor in the prices."""
        fitting = {}
        for name, candidate in self._winners.items():
            scale = self._instruments.scale(conn, candidate.key)
            if len(candidate.columns) and scale != candidate.key.price_scale:
                detail = (
                    f"price scale {candidate.key.price_scale}, but {candidate.key.product_id} is stored with {scale}"
                )
                stored.letters.append(Letter(self._messages[name], "scale", detail))
            else:
                fitting[name] = candidate
        return fitting

    def _encode(self, places: dict[Name, int]) -> hour_rows.Encoded:
        hours = ((number, self._winners[name]) for name, number in places.items())
        return hour_rows.encode([hour_rows.HourRows(number, c.columns, c.seq) for number, c in hours])

    def _copy(self, conn: Connection, fresh: dict[Name, Candidate], ids: dict[tuple[str, str], int]) -> None:
        places = _filled(fresh, ids)
        if not places:
            return
        encoded = self._encoded if places == self._places else self._encode(places)
        with conn.cursor() as cursor:
            for command, bodies in (
                (_COPY_QUOTES, encoded.quotes),
                *((_COPY_CANDLES[table], bodies) for table, bodies in encoded.candles.items()),
            ):
                with cursor.copy(command) as copy:
                    write(copy, bodies)


def _filled(hours: dict[Name, Candidate], ids: dict[tuple[str, str], int]) -> dict[Name, int]:
    """Instrument ids of the hours that have quotes, as far as they are known."""
    return {name: ids[name[:2]] for name, c in hours.items() if len(c.columns) and name[:2] in ids}


def _chosen(quotes: QuoteHour, rows: npt.NDArray[Any]) -> QuoteHour:
    """Some rows, by mask or by index."""
    return QuoteHour(quotes.header, *(getattr(quotes, name)[rows] for name in COLUMNS))


def _running_number(offset_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 for each new millisecond, counting up within one."""
    place = np.arange(len(offset_ms), dtype=np.int64)
    if len(offset_ms) < 2 or (offset_ms[1:] != offset_ms[:-1]).all():
        return np.zeros(len(offset_ms), dtype=np.int64)
    starts = np.r_[True, offset_ms[1:] != offset_ms[:-1]]
    return place - np.maximum.accumulate(np.where(starts, place, 0))


def _known_hours(conn: Connection, places: list[tuple[int, int]]) -> dict[tuple[int, int], Hour]:
    found = conn.execute(statement("quote_hours_known"), ([p[0] for p in places], [from_us(p[1]) for p in places]))
    return {(r[0], to_us(r[1])): Hour(to_us(r[1]), r[2], r[3], r[4], to_us(r[5]), r[6], r[7]) for r in found}


def _ledger_row(instrument_id: int, new: Candidate, old: Hour | None) -> tuple[Any, ...] | None:
    """The ledger's row after this message, or None where it stays."""
    hour = new.hour
    revision, fetched_at_us, feed = 0, hour.fetched_at_us, hour.feed
    if old is not None:
        if same_content(hour, old):
            # The content did not change; that it was seen later counts, or an older correction could come back.
            fetched_at_us = max(fetched_at_us, old.fetched_at_us)
            feed = "json" if "json" in (feed, old.feed) else old.feed
            if (fetched_at_us, feed) == (old.fetched_at_us, old.feed) or hour.state == "seen_empty":
                return None
            revision = old.revision
        elif not wins(hour, old):
            return None
        else:
            revision = old.revision + (old.state == "present")
    at, fetched_at = from_us(hour.hour_us), from_us(fetched_at_us)
    return instrument_id, at, hour.state, hour.ticks, feed, fetched_at, hour.checksum, revision


def _clear(conn: Connection, place: tuple[int, int]) -> None:
    """Take an hour's rows and candles out, to put the corrected ones in."""
    span = (place[0], from_us(place[1]), from_us(place[1] + HOUR_US))
    conn.execute("DELETE FROM quotes WHERE instrument_id = %s AND ts >= %s AND ts < %s", span)
    conn.execute("DELETE FROM quote_candle_1m WHERE instrument_id = %s AND bucket >= %s AND bucket < %s", span)
    conn.execute("DELETE FROM quote_candle_1h WHERE instrument_id = %s AND bucket >= %s AND bucket < %s", span)

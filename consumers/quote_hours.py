"""Hours of quotes into `quotes`, `quote_candle_*` and the ledger `quote_hours`.

An hour is whole: it is stored, replaced or left alone as one. Which of two hours wins does not depend on the order
in which they arrive (`wins`). Because the ledger has decided before, rows go straight into the tables by COPY
(measured: 0.8 M rows/s, against 0.55 M through a temporary table), and the candles, which an hour determines
completely, are made by numpy from the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from consumers import fields, quote_copy
from consumers.instruments import Instruments, Key
from consumers.pgcopy import write
from consumers.sink import DeadLetter, DeadLetters, MessageSlice, WriteResult
from consumers.subscription import Message
from consumers.validation import check_address
from pipeline.core.errors import BadData
from pipeline.core.settings import DukascopySettings, load
from pipeline.core.times import from_us, to_us
from pipeline.database.connection import Connection
from pipeline.database.ledger import Hour
from pipeline.database.sql import statement
from schemas.columns import COLUMNS, QuoteHour, decode_quote_hour
from venues.market_hours import EMPTY_FINAL_AFTER_US, HOUR_US, closed_by_week, session_of

HOUR_MS = 3_600_000
MOST = 10**15 - 1  # of a price or a size as an integer
MOST_SUM = 9 * 10**18  # what numpy adds up without going round
MAY_BE_NEGATIVE = ("commodity",)  # oil has traded below zero
_COPY_QUOTES = "COPY quotes (instrument_id, ts, seq, bid, ask, bid_size, ask_size) FROM STDIN (FORMAT BINARY)"
_COPY_CANDLES = {
    table: f"""
    COPY {table} (instrument_id, bucket, open, high, low, close, ask_open, ask_high, ask_low, ask_close,
                  bid_size, ask_size, spread_sum, ticks, first_ts, first_seq, last_ts, last_seq)
    FROM STDIN (FORMAT BINARY)"""
    for table in quote_copy.WIDTHS_MS
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
    refused: int  # rows that got a letter


@dataclass(frozen=True)
class Known:
    """An hour as the ledger has it; `age_s`: since when, by the database's clock."""

    hour: Hour
    age_s: float


def state_of(header: dict[str, Any]) -> str:
    """The ledger's state that a message claims by its status."""
    if header["status"] in ("ticks", "partial"):
        return "present" if header["status"] == "ticks" else "partial"
    if header["feed"] == "calendar":
        return "closed"
    return "confirmed_empty" if header["final"] else "seen_empty"


def earned(new: Candidate, known: Known | None, asset_class: str, confirm_s: float) -> Hour:
    """The hour with the state that it is given: nothing is final by one message's word.

    Empty is what was seen empty some time before, by the database's clock and by the messages'. A file of zero length
    in a folder is empty at once; closed is what the week's rule says, and otherwise (a holiday) what was said twice. An
    hour of which rows were refused stays `partial`, and is asked for again, until it is told a second time.
    """
    hour = new.hour
    old = known.hour if known else None
    first_state = "partial" if hour.state == "present" else "seen_empty"
    if hour.state == "present" and not new.refused:
        return hour
    if hour.state in ("partial", "seen_empty"):
        return hour
    if hour.state == "closed" and closed_by_week(session_of(asset_class), hour.hour_us):
        return hour
    if hour.state == "confirmed_empty" and hour.feed == "folder":
        return hour
    if old is not None and old.state == hour.state and same_content(hour, old):
        return hour
    late_enough = hour.state != "confirmed_empty" or hour.hour_us + HOUR_US + EMPTY_FINAL_AFTER_US <= hour.fetched_at_us
    if (
        known is not None and old is not None and late_enough
        and (old.state, old.ticks, old.checksum) == (first_state, hour.ticks, hour.checksum)
        and known.age_s >= confirm_s and hour.fetched_at_us - old.fetched_at_us >= confirm_s * 1_000_000
    ):  # fmt: skip
        return hour
    return replace(hour, state=first_state)


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
    schema = "quotes"
    divisible = False

    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments or Instruments()
        self._confirm_s = load(DukascopySettings).empty_confirm_seconds

    def read(self, message: Message) -> tuple[QuoteHour, int]:
        hour = decode_quote_hour(message.data, message.layout)
        header = hour.header
        check_address(message.topic, header["venue"], header["product_id"], header["asset_class"])
        fields.check("quotes", header)
        if header["hour_start_us"] % HOUR_US:
            raise BadData("time", f"hour_start_us {header['hour_start_us']} is not a whole hour")
        fields.check_ahead("hour_start_us", header["hour_start_us"])
        # One "fetched" in 2099 could never be replaced.
        fields.check_ahead("fetched_at_us", header["fetched_at_us"])
        if len(hour) and header["status"] not in ("ticks", "partial"):
            raise BadData("status", f"an hour with status {header['status']} holds {len(hour)} quotes")
        if not len(hour) and header["status"] in ("ticks", "partial"):
            raise BadData("status", f"an hour with status {header['status']} holds no quotes")
        return hour, len(hour)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedHours:
        return PreparedHours(parts, self.instruments, self._confirm_s)


class PreparedHours:
    """Checked hours of a batch; of several messages about one hour only the winner is kept."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments, confirm_s: float) -> None:
        self._instruments = instruments
        self._confirm_s = confirm_s
        self.letters = DeadLetters()
        self._winners: dict[Name, Candidate] = {}
        self._messages: dict[Name, Message] = {}
        for part in parts:
            try:
                found = self._check(part)
            except BadData as error:
                self.letters.add(part.message, error.reason, str(error))
                continue
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
        for message in self._messages.values():
            self.letters.add(message, reason, detail)
        self._winners.clear()
        self.rows = 0

    def _check(self, part: MessageSlice) -> Candidate:
        quotes: QuoteHour = part.record
        header = quotes.header
        kept = self._good_rows(part, header["asset_class"])
        if (kept.offset_ms[1:] < kept.offset_ms[:-1]).any():
            kept = _chosen(kept, np.argsort(kept.offset_ms, kind="stable"))
        _check_sums(kept)
        # What has no prices says nothing about their scale.
        key = Key(
            header["venue"], header["product_id"], header["asset_class"], header["price_scale"] if len(kept) else None
        )
        hour = Hour(
            header["hour_start_us"], state_of(header), len(kept), header["feed"], header["fetched_at_us"],
            header["checksum"], 0,
        )  # fmt: skip
        return Candidate(key, hour, kept, _running_number(kept.offset_ms), len(quotes) - len(kept))

    def _good_rows(self, part: MessageSlice, asset_class: str) -> QuoteHour:
        """The rows that may be stored; the others get their letters."""
        quotes: QuoteHour = part.record
        lowest = -MOST if asset_class in MAY_BE_NEGATIVE else 1
        bounds = (
            ("time", quotes.offset_ms, 0, HOUR_MS - 1),
            ("price", quotes.bid, lowest, MOST),
            ("price", quotes.ask, lowest, MOST),
            ("size", quotes.bid_size, 0, MOST),
            ("size", quotes.ask_size, 0, MOST),
        )
        if not len(quotes) or all(low <= c.min() and c.max() <= high for _, c, low, high in bounds):
            return quotes  # the usual case, told by the extremes alone
        good = np.ones(len(quotes), dtype=bool)
        for reason, column, low, high in bounds:
            ok = (column >= low) & (column <= high)
            for row in np.flatnonzero(good & ~ok).tolist():
                content = {name: int(getattr(quotes, name)[row]) for name in COLUMNS}
                self.letters.add(part.message, reason, f"{reason} out of range", row, content)
            good &= ok
        return _chosen(quotes, good)

    def store(self, conn: Connection) -> WriteResult:
        stored = WriteResult()
        wanted = self._fitting_scale(conn, stored)
        if not wanted:
            return stored
        ids = self._instruments.ids(conn, [c.key for c in wanted.values()])
        with conn.transaction():
            classes = {row[0]: row[4] for row in self._instruments.lock(conn, ids, "instruments_lock")}
            known = _known_hours(conn, [(ids[n[:2]], n[2]) for n in wanted])
            fresh: dict[Name, Candidate] = {}
            ledger: list[tuple[Any, ...]] = []
            for name, claimed in wanted.items():
                place = (ids[name[:2]], claimed.hour.hour_us)
                before = known.get(place)
                old = before.hour if before else None
                candidate = replace(claimed, hour=earned(claimed, before, classes[place[0]], self._confirm_s))
                row = _ledger_row(place[0], candidate, old)
                if row is not None:
                    ledger.append(row)
                if old is None or wins(candidate.hour, old):
                    fresh[name] = candidate
                    if old is not None and old.ticks:
                        _clear(conn, place)
            stored.rows = sum(len(c.columns) for c in fresh.values())
            self._copy(conn, fresh, ids)
            if ledger:
                with conn.cursor() as cursor:
                    cursor.executemany(statement("quote_hours_store"), ledger)
        return stored

    def _fitting_scale(self, conn: Connection, stored: WriteResult) -> dict[Name, Candidate]:
        """Without the hours whose price scale is not the instrument's: a wrong one would be a factor in the prices."""
        fitting = {}
        for name, candidate in self._winners.items():
            if (
                len(candidate.columns)
                and (scale := self._instruments.scale(conn, candidate.key)) != candidate.key.price_scale
            ):
                detail = (
                    f"price scale {candidate.key.price_scale}, but {candidate.key.product_id} is stored with {scale}"
                )
                stored.letters.append(DeadLetter(self._messages[name], "scale", detail))
            else:
                fitting[name] = candidate
        return fitting

    def _encode(self, places: dict[Name, int]) -> quote_copy.Encoded:
        hours = ((number, self._winners[name]) for name, number in places.items())
        return quote_copy.encode([quote_copy.HourRows(number, c.columns, c.seq) for number, c in hours])

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


def _check_sums(quotes: QuoteHour) -> None:
    """Raise `BadData` where a candle's sums leave the integers of 64 bits. In floats: only their size matters."""
    for reason, column in (
        ("size", quotes.bid_size), ("size", quotes.ask_size), ("price", quotes.ask - quotes.bid)
    ):  # fmt: skip
        if len(column) * MOST * 2 > MOST_SUM and np.abs(column).sum(dtype=np.float64) > MOST_SUM:
            raise BadData(reason, f"the {reason}s of this hour add up to more than {MOST_SUM:,}")


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


def _known_hours(conn: Connection, places: list[tuple[int, int]]) -> dict[tuple[int, int], Known]:
    found = conn.execute(statement("quote_hours_known"), ([p[0] for p in places], [from_us(p[1]) for p in places]))
    return {
        (r[0], to_us(r[1])): Known(Hour(to_us(r[1]), r[2], r[3], r[4], to_us(r[5]), r[6], r[7]), r[8]) for r in found
    }


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
            if new.refused and hour.state == "partial":
                return None  # the first telling counts, as with emptiness
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

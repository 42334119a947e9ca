"""Store hours of quotes in `quotes`, `quote_candle_*` and the ledger `quote_hours`.

An hour is atomic: it is stored, replaced or left as a whole. Which of two versions wins does not depend on the order of
arrival (`wins`). Because the ledger decides first, rows are copied straight into the tables (measured: 0.8 M rows/s,
against 0.55 M through a temporary table), and the candles, which an hour fully determines, are computed with numpy from
the same integers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from consumers import quote_checks, quote_copy
from consumers.direct import Direct
from consumers.hour_state import NOTHING_KNOWN, Candidate, Known, Name, earned, state_of
from consumers.instruments import Instruments, Key
from consumers.sink import DeadLetter, DeadLetters, MessageSlice, WriteResult, all_taken, read_each
from consumers.subscription import Message
from pipeline.broker.topics import check_address
from pipeline.core.errors import BadData
from pipeline.core.settings import load
from pipeline.core.times import HOUR_US, from_us, to_us
from pipeline.database.connection import Connection
from pipeline.database.copy import write
from pipeline.database.hour_order import EMPTY_FINAL_AFTER_US, entry, same_content, wins
from pipeline.database.ledger import Hour
from pipeline.database.sql import statement
from schemas import fields
from schemas.columns import COLUMNS, QuoteHour, decode_quote_hour
from venues.dukascopy.settings import DukascopySettings
from venues.registry import check_kind

_COPY_QUOTES = "COPY quotes (instrument_id, ts, seq, bid, ask, bid_size, ask_size) FROM STDIN (FORMAT BINARY)"
_COPY_CANDLES = {
    table: f"""
    COPY {table} (instrument_id, bucket, open, high, low, close, ask_open, ask_high, ask_low, ask_close,
                  bid_size, ask_size, spread_sum, ticks, first_ts, first_seq, last_ts, last_seq)
    FROM STDIN (FORMAT BINARY)"""
    for table in quote_copy.WIDTHS_MS
}


class Hours:
    """The sink of `quotes.avsc`: one hour of one instrument per message."""

    namespace = "quotes"
    schema = "quotes"
    divisible = False

    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments or Instruments()
        self._confirm_s = load(DukascopySettings).empty_confirm_seconds
        self._direct = Direct()
        self.hold = self._direct.hold

    def read(self, message: Message) -> tuple[QuoteHour, int]:
        hour = decode_quote_hour(message.data, message.layout)
        header = hour.header
        check_address(message.topic, header.venue, header.product_id, header.asset_class)
        check_kind(self.namespace, header.venue)
        fields.check("quotes", header)
        if header.hour_start_us % HOUR_US:
            raise BadData("time", f"hour_start_us {header.hour_start_us} is not a whole hour")
        fields.check_ahead("hour_start_us", header.hour_start_us)
        # An hour fetched "in 2099" could never be replaced.
        fields.check_ahead("fetched_at_us", header.fetched_at_us)
        if len(hour) and header.status not in ("ticks", "partial"):
            raise BadData("status", f"an hour with status {header.status} holds {len(hour)} quotes")
        if not len(hour) and header.status in ("ticks", "partial"):
            raise BadData("status", f"an hour with status {header.status} holds no quotes")
        return hour, len(hour)

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        return read_each(self.read, messages, letters)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedHours:
        return PreparedHours(parts, self.instruments, self._confirm_s, self._direct)


class PreparedHours:
    """Checked hours of a batch; a `PreparedBatch`. Of several messages about an hour only the winner is kept."""

    def __init__(
        self, parts: Sequence[MessageSlice], instruments: Instruments, confirm_s: float, direct: Direct
    ) -> None:
        self._instruments = instruments
        self._direct = direct
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
            if before is None or wins(found.ranked, before.ranked):
                self._winners[name] = found
                self._messages[name] = part.message
        self.rows = sum(len(c.columns) for c in self._winners.values())
        # Encoded in the reading thread, while the database stores the previous batch: measured, 5 % more quotes/s.
        self._places = _ids_with_quotes(self._winners, instruments.known({name[:2] for name in self._winners}))
        # Not with direct archiving: most of it would be wasted, because the quotes go into files.
        self._encoded = None if direct.days else self._encode(self._places)

    def refuse(self, reason: str, detail: str) -> None:
        """See `PreparedBatch.refuse`. A refused hour stays unknown to the ledger, so it is requested again."""
        for message in self._messages.values():
            self.letters.add(message, reason, detail)
        self._winners.clear()
        self.rows = 0

    def _check(self, part: MessageSlice) -> Candidate:
        quotes: QuoteHour = part.record
        header = quotes.header

        def refuse(reason: str, row: int) -> None:
            content = {name: int(getattr(quotes, name)[row]) for name in COLUMNS}
            self.letters.add(part.message, reason, f"{reason} out of range", row, content)

        kept = quote_checks.in_order(quote_checks.good_rows(quotes, header.asset_class, refuse))
        quote_checks.check_sums(kept)
        # Without prices the scale is meaningless.
        key = Key(header.venue, header.product_id, header.asset_class, header.price_scale if len(kept) else None)
        hour = Hour(
            header.hour_start_us,
            state_of(header),
            len(kept),
            header.feed,
            header.fetched_at_us,
            header.checksum,
            0,
        )
        return Candidate(key, hour, kept, quote_checks.running_number(kept.offset_ms), len(quotes) - len(kept))

    def store(self, conn: Connection) -> WriteResult:
        stored = WriteResult()
        wanted = self._fitting_scale(conn, stored)
        if not wanted:
            return stored
        ids = self._instruments.ids(conn, [c.key for c in wanted.values()])
        with self._direct.written(conn, wanted, ids) as days, conn.transaction():
            classes = {row[0]: row[4] for row in self._instruments.lock(conn, ids, "instruments_lock")}
            known = _known_hours(conn, [(ids[n[:2]], n[2]) for n in wanted])
            fresh: dict[Name, Candidate] = {}
            ledger: list[tuple[Any, ...]] = []
            for name, claimed in wanted.items():
                place = (ids[name[:2]], claimed.hour.hour_us)
                before = known.get(place, NOTHING_KNOWN)
                old = before.hour
                candidate = replace(claimed, hour=earned(claimed, before, classes[place[0]], self._confirm_s))
                if (kept := entry(candidate.hour, old, refused=candidate.refused > 0)) is not None:
                    ledger.append(_ledger_row(place[0], kept))
                if old is None or wins(candidate.hour, old) or (before.strange and _same_rows(candidate.hour, old)):
                    fresh[name] = candidate
                    if before.strange or (old is not None and old.ticks):
                        quote_copy.clear(conn, place[0], place[1])
            stored.rows = sum(len(c.columns) for c in fresh.values())
            in_files = days.commit(conn, fresh)
            self._copy(conn, fresh, ids, in_files)
            changed = [(ids[name[:2]], from_us(name[2])) for name in fresh if name not in in_files]
            if changed:
                numbers, hours = map(list, zip(*changed, strict=True))
                conn.execute(statement("quote_hours_changed"), {"instruments": numbers, "hours": hours})
            if ledger:
                with conn.cursor() as cursor:
                    cursor.executemany(statement("quote_hours_store"), ledger)
        return stored

    def _fitting_scale(self, conn: Connection, stored: WriteResult) -> dict[Name, Candidate]:
        """Return the hours without those whose price scale differs from the instrument's: prices would be off by a
        factor."""
        fitting = {}
        for name, candidate in self._winners.items():
            key = candidate.key
            if len(candidate.columns) and (scale := self._instruments.scale(conn, key)) != key.price_scale:
                detail = f"price scale {key.price_scale}, but {key.product_id} is stored with {scale}"
                stored.letters.append(DeadLetter(self._messages[name], "scale", detail))
            else:
                fitting[name] = candidate
        return fitting

    def _encode(self, places: dict[Name, int], in_files: Collection[Name] = ()) -> quote_copy.Encoded:
        """Encode hours for COPY. `places`: their instrument ids."""
        hours = ((number, self._winners[name], name in in_files) for name, number in places.items())
        return quote_copy.encode([quote_copy.HourRows(number, c.columns, c.seq, filed) for number, c, filed in hours])

    def _copy(
        self, conn: Connection, fresh: dict[Name, Candidate], ids: dict[tuple[str, str], int], in_files: set[Name]
    ) -> None:
        places = _ids_with_quotes(fresh, ids)
        if not places:
            return
        ready = self._encoded is not None and places == self._places and not in_files
        encoded = self._encoded if ready and self._encoded else self._encode(places, in_files)
        with conn.cursor() as cursor:
            for command, bodies in (
                (_COPY_QUOTES, encoded.quotes),
                *((_COPY_CANDLES[table], bodies) for table, bodies in encoded.candles.items()),
            ):
                with cursor.copy(command) as copy:
                    write(copy, bodies)
                if command is _COPY_QUOTES:
                    all_taken(sum(len(fresh[name].columns) for name in places if name not in in_files), cursor.rowcount)


def _ids_with_quotes(hours: dict[Name, Candidate], ids: dict[tuple[str, str], int]) -> dict[Name, int]:
    """Return the known instrument ids of the hours that have quotes."""
    return {name: ids[name[:2]] for name, c in hours.items() if len(c.columns) and name[:2] in ids}


def _known_hours(conn: Connection, places: list[tuple[int, int]]) -> dict[tuple[int, int], Known]:
    late_s = (HOUR_US + EMPTY_FINAL_AFTER_US) / 1e6
    values = ([p[0] for p in places], [from_us(p[1]) for p in places], late_s)
    found = conn.execute(statement("quote_hours_known"), values)
    return {(row[0], to_us(row[1])): _known_hour(*row[1:]) for row in found}


def _known_hour(
    at: datetime,
    state: str | None,
    ticks: int,
    feed: str,
    fetched_at: datetime,
    checksum: int,
    revision: int,
    age_s: float,
    looked_s: float | None,
    strange: bool,
) -> Known:
    if state is None:
        return Known(None, 0.0, looked_s, strange)
    return Known(Hour(to_us(at), state, ticks, feed, to_us(fetched_at), checksum, revision), age_s, looked_s, strange)


def _same_rows(new: Hour, old: Hour) -> bool:
    """Return whether the ledger's version has these rows, so that they can be stored again. Feeds differ in sizes."""
    return same_content(new, old) and new.feed == old.feed


def _ledger_row(instrument_id: int, hour: Hour) -> tuple[Any, ...]:
    at, fetched_at = from_us(hour.hour_us), from_us(hour.fetched_at_us)
    return instrument_id, at, hour.state, hour.ticks, hour.feed, fetched_at, hour.checksum, hour.revision

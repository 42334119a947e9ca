"""Store live tickers (best bid and ask) in `quotes`, with candles. The key is (instrument, time, seq)."""

from __future__ import annotations

from collections.abc import Sequence

from consumers.instruments import Instruments, Key
from consumers.sink import DeadLetter, DeadLetters, MessageSlice, WriteResult, all_taken, hold_nothing, read_each
from consumers.subscription import Message
from pipeline.broker.topics import check_address
from pipeline.core.errors import BadData
from pipeline.core.runtime import now_us
from pipeline.core.times import OLDEST_US
from pipeline.database.arrays import array
from pipeline.database.connection import Connection
from pipeline.database.sql import statement
from schemas import fields
from schemas.decimals import plain_digits
from schemas.records import TickerMessage, decode_as
from venues.registry import check_kind

_PRICES = ("bid", "ask")
_SIZES = ("bid_size", "ask_size")


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
        check_kind(self.namespace, record.venue)
        fields.check("ticker", record)
        return record, 1

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        return read_each(self.read, messages, letters)

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTickers:
        return PreparedTickers(parts, self.instruments)


class PreparedTickers:
    """Checked tickers of a batch; a `PreparedBatch`. Checked one by one: they are few, and numpy calls would cost
    more."""

    def __init__(self, parts: Sequence[MessageSlice], instruments: Instruments) -> None:
        self._parts = parts
        self._instruments = instruments
        self.letters = DeadLetters()
        self._good: dict[int, tuple[str, ...]] = {}  # row -> bid, ask and their sizes, as stored
        self._missed: list[tuple[int, int]] = []  # row, since when tickers were missed
        for row, part in enumerate(parts):
            record: TickerMessage = part.record
            time_good = OLDEST_US <= record.timestamp_us <= fields.latest_us(record.origin)
            try:
                if not time_good:
                    raise BadData("time", "time out of range")
                self._good[row] = _checked_numbers(record)
            except BadData as error:
                self.letters.add(part.message, error.reason, str(error), 0, record)
            since = record.missed_since_us
            # Valid even if the ticker itself is refused.
            if since is None or not time_good:
                continue
            if since and (problem := fields.TIME.problem(since)):
                self.letters.add(part.message, "time", f"missed_since_us: {problem}", 0, record)
            else:
                self._missed.append((row, since))
        self.rows = len(self._good)

    def refuse(self, reason: str, detail: str) -> None:
        for row in self._good:
            part = self._parts[row]
            self.letters.add(part.message, reason, detail, 0, part.record)
        self._good, self._missed, self.rows = {}, [], 0

    def store(self, conn: Connection) -> WriteResult:
        records: list[TickerMessage] = [part.record for part in self._parts]
        keys = {Key(record.venue, record.product_id, record.asset_class) for record in records}
        ids = self._instruments.ids(conn, keys)
        number = [ids[record.venue, record.product_id] for record in records]
        stored = WriteResult()
        with conn.transaction():
            self._instruments.lock(conn, ids, "instruments_lock")
            if self._good:
                bid, ask, bid_size, ask_size = zip(*self._good.values(), strict=True)
                found = conn.execute(
                    statement("tickers_store"),
                    {
                        "instrument": array(number[row] for row in self._good),
                        "at_us": array(records[row].timestamp_us for row in self._good),
                        "seq": array(records[row].seq for row in self._good),
                        "bid": array(bid),
                        "ask": array(ask),
                        "bid_size": array(bid_size),
                        "ask_size": array(ask_size),
                    },
                ).fetchone()
                assert found is not None  # always a row
                stored.rows, fresh, gone = found
                all_taken(fresh, stored.rows)
                good = list(self._good)
                stored.letters = [self._dropped_letter(good[place]) for place in gone]
            for row, since in self._missed:
                until = records[row].timestamp_us
                span = {"instrument": number[row], "since": since, "until": until, "now": now_us()}
                conn.execute(statement("tickers_missed_store"), span)
        return stored

    def _dropped_letter(self, row: int) -> DeadLetter:
        part = self._parts[row]
        detail = "retention dropped the tickers of its time from the tables: whether it was among them cannot be told"
        return DeadLetter(part.message, "dropped", detail, 0, part.record)


def _checked_numbers(record: TickerMessage) -> tuple[str, ...]:
    """Return bid, ask and their sizes as they are stored. Raises `BadData`."""
    if problem := fields.SEQ.problem(record.seq):
        raise BadData("seq", f"seq: {problem}")
    made = []
    for name in _PRICES + _SIZES:
        try:
            made.append(plain_digits(getattr(record, name)))
        except ValueError as error:
            raise BadData("price" if name in _PRICES else "size", f"{name}: {error}") from None
        if name in _PRICES and not made[-1].strip("0."):
            raise BadData("price", f"{name}: zero")
    return tuple(made)

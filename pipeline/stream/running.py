"""The running candle: the database's state at one moment, plus the topic's ticks that it did not contain yet.

Candle and ledger are read in one statement, so they belong to the same moment. A tick that the ledger contains is in
the candle; any other is added here. So nothing counts twice, nothing is missed, and the candle equals what the database
will have once it has stored the same ticks. Between two such queries the candle follows the topic alone. The database
is queried again after ticks of an older candle (at a candle's end, or for a repair) and when many ticks have
accumulated.

While the database is away, up to `MOST` ticks accumulate; then they are dropped, and no candle is shown until the
database has stored what came later. The cost per tick does not depend on their number: each is merged once.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.core.numeric import EXACT, quotient
from pipeline.core.runtime import now_us
from pipeline.core.timeframes import Timeframe
from pipeline.core.times import from_us, to_us
from pipeline.database.sql import statement
from pipeline.stream.instruments import Instrument
from pipeline.stream.items import Tick

# More ticks than this beside the database's candle lead to a new query; 2,000 are merged in 2 ms.
PILE = 2_000
# Some 5 MB per open chart: ten seconds of the busiest pair while the database is away, hours of most others.
MOST, MOST_CANDLES = 10_000, 200
# A tick that the writer has not stored for this long, although it has stored later ones, was refused.
REFUSED_AFTER_S = 60.0
# How far below the smallest pending id the ledger is read, for ticks that arrive during the query.
SLACK = 1_000_000
_NO_END = 1 << 63

Key = tuple[int, int]
"""Sort key of ticks: (0, id) for trades, whatever their times; (time, seq) for tickers."""


def text_of(value: Decimal | None) -> str | None:
    """Return an exact decimal without padding or exponent: `0E-8` -> `0`, `1.2300` -> `1.23`."""
    if value is None:
        return None
    return f"{value.normalize(EXACT):f}" if value else "0"


@dataclass(slots=True)
class Candle:
    """A candle. Open and close are those of the smallest and the greatest key, as in the database."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal | None  # None: quotes have none
    ticks: int
    first: Key
    last: Key

    def add(self, other: Candle) -> None:
        """Merge another candle of the same interval into this one."""
        if other.first < self.first:
            self.open, self.first = other.open, other.first
        if other.last > self.last:
            self.close, self.last = other.close, other.last
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.volume = EXACT.add(self.volume, other.volume)
        if self.turnover is not None and other.turnover is not None:
            self.turnover = EXACT.add(self.turnover, other.turnover)
        self.ticks += other.ticks

    def row(self, bucket_us: int) -> list[Any]:
        """Return the candle as a row of `/api/candles`."""
        numbers = map(text_of, (self.open, self.high, self.low, self.close, self.volume, self.vwap))
        return [bucket_us // 1_000_000, *numbers, self.ticks]

    @property
    def vwap(self) -> Decimal | None:
        """The volume-weighted average price, equal to that of the candle views to the last digit; None for quotes, and
        without volume."""
        return quotient(self.turnover, self.volume) if self.turnover is not None and self.volume else None


def merged(candle: Candle | None, piece: Candle) -> Candle:
    """Return the candle with this piece merged in."""
    if candle is None:
        return piece
    candle.add(piece)
    return candle


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of sql/stream/live_*.sql: how far data is stored, and one candle, whose columns are all None if there is
    none."""

    covered: Any  # trades: the multirange of their ids; tickers: the time of the newest
    top: int | None
    bucket: datetime | None
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal | None
    ticks: int
    first_ts: datetime
    first: int
    last_ts: datetime
    last: int

    def candle(self) -> Candle:
        first, last = (to_us(self.first_ts), self.first), (to_us(self.last_ts), self.last)
        prices = self.open, self.high, self.low, self.close
        return Candle(*prices, self.volume, self.turnover, self.ticks, first, last)


@dataclass(frozen=True)
class Question:
    """A query of the database. `wanted`: starts of the candles it is about; `asked_s`: when it was made (monotonic)."""

    query: str
    values: dict[str, Any]
    wanted: set[int]
    asked_s: float


class RunningCandles:
    """The running candles of one instrument and timeframe, for one reader. Starts of candles are µs since 1970.

    Not thread-safe. Ticks may be added between a `question` and its `answer`.
    """

    def __init__(self, instrument: Instrument, timeframe: Timeframe) -> None:
        self._instrument = instrument
        self._timeframe = timeframe
        self._bases: dict[int, Candle | None] = {}
        self._pending: dict[int, dict[Key, Tick]] = {}
        self._count = 0  # of pending ticks
        self._shown: dict[int, Candle] = {}  # base and pending ticks merged, made when first asked for
        self._dropped: tuple[Key, float] | None = None  # the greatest key dropped, and when (monotonic)
        self._newest_us = 0
        self._synced = False
        self._covered: list[tuple[int, int]] = []  # trade ids that the candles read last contain, end excluded
        self._stored_to: Key | None = None  # tickers come in order: the newest in the candles read last
        self.received_at_us = 0

    def _key(self, tick: Tick) -> Key:
        return 0 if self._instrument.kind == "trades" else tick.timestamp_us, tick.order

    def _stored(self, key: Key, tick: Tick) -> bool:
        if self._instrument.kind != "trades":
            return self._stored_to is not None and key <= self._stored_to
        at = bisect_right(self._covered, (tick.order, _NO_END))
        return at > 0 and tick.order < self._covered[at - 1][1]

    def add(self, tick: Tick) -> int:
        """Add a tick; returns the start of its candle."""
        bucket = self._timeframe.bucket_us(tick.timestamp_us)
        key = self._key(tick)
        if self._stored(key, tick):
            return bucket
        ticks = self._pending.get(bucket)
        if ticks is not None and key in ticks:
            return bucket
        if self._count >= MOST or (ticks is None and len(self._pending) >= MOST_CANDLES):
            self._overflow()
            ticks = None
        if ticks is None:
            ticks = self._pending[bucket] = {}
        ticks[key] = tick
        self._count += 1
        if bucket in self._shown:
            self._shown[bucket].add(self._piece(key, tick))
        self._newest_us = max(self._newest_us, bucket)
        self.received_at_us = max(self.received_at_us, tick.received_at_us)
        return bucket

    def _piece(self, key: Key, tick: Tick) -> Candle:
        turnover = EXACT.multiply(tick.price, tick.size) if self._instrument.kind == "trades" else None
        return Candle(tick.price, tick.price, tick.price, tick.price, tick.size, turnover, 1, key, key)

    def _overflow(self) -> None:
        self._dropped = max(key for ticks in self._pending.values() for key in ticks), time.monotonic()
        self._pending.clear()
        self._shown.clear()
        self._count = 0

    @property
    def behind(self) -> bool:
        """Whether ticks were dropped that the database has not stored yet."""
        return self._dropped is not None

    @property
    def wants_sync(self) -> bool:
        """Whether the database should be queried again: see the module's docstring."""
        older = len(self._pending) > 1 or any(bucket != self._newest_us for bucket in self._pending)
        return not self._synced or self._dropped is not None or older or self._count > PILE

    def row(self, bucket: int) -> list[Any] | None:
        """Return `candle` as a row of `/api/candles`."""
        made = self.candle(bucket)
        return None if made is None else made.row(bucket)

    def candle(self, bucket: int) -> Candle | None:
        """Return the current candle; None if it is unknown or has no ticks."""
        if self.unknown(bucket):
            return None
        made = self._shown.get(bucket)
        if made is None:
            base = self._bases.get(bucket)
            if base is not None:
                made = replace(base)
            for key, tick in self._pending.get(bucket, {}).items():
                made = merged(made, self._piece(key, tick))
            if made is None:
                return None
            self._shown[bucket] = made
        return made

    def unknown(self, bucket: int) -> bool:
        """Return whether the database must be queried to know this candle, or that there is none. A candle newer than
        all queried ones is known: it consists of the topic's ticks alone."""
        return not self._synced or self.behind or (bucket not in self._bases and bucket < self._newest_us)

    def question(self, *more: int) -> Question:
        """Return the query to make now. `more`: starts of further candles beside the running ones."""
        wanted = {*self._pending, self._newest_us, self._timeframe.bucket_us(now_us()), *more} - {0}
        ids = [t.order for ticks in self._pending.values() for t in ticks.values()]
        kind = "trade" if self._instrument.kind == "trades" else "quote"
        query = statement(f"stream/live_{kind}s").replace(":kind", kind).replace(":source", self._timeframe.source)
        values = {
            "id": self._instrument.instrument_id,
            "buckets": [from_us(b) for b in sorted(wanted)],
            "width": f"{self._timeframe.width_us} microseconds",
            "low": min(ids) - SLACK if ids else None,
            "slack": SLACK,
        }
        return Question(query, values, wanted, time.monotonic())

    def answer(self, asked: Question, rows: Sequence[Stored]) -> list[int]:
        """Apply the result of a query; returns the starts of the candles that are known now."""
        wanted = set(asked.wanted)
        candles = [(to_us(row.bucket), row.candle()) for row in rows if row.bucket is not None]
        wanted |= {self._timeframe.bucket_us(at_us) for at_us, _ in candles}
        self._bases = dict.fromkeys(wanted)
        self._shown.clear()
        for at_us, piece in candles:
            start = self._timeframe.bucket_us(at_us)
            self._bases[start] = merged(self._bases[start], piece)
        if rows:
            self._drop_stored(rows[0].covered, rows[0].top, asked.asked_s)
        self._newest_us = max(self._newest_us, *wanted) if self._newest_us else max(wanted)
        if self._bases.get(self._newest_us) is None and self._newest_us not in self._pending:
            known = [b for b, candle in self._bases.items() if candle is not None or b in self._pending]
            self._newest_us = max(known, default=self._newest_us)
        self._synced = True
        return sorted(wanted)

    def _drop_stored(self, covered: Any, top: int | None, began: float) -> None:
        """Drop the ticks that the candles just read contain, and those that the writer has refused."""
        trades = self._instrument.kind == "trades"
        if trades:
            self._covered = [(span.lower, span.upper) for span in covered or ()]
        else:
            self._stored_to = None if covered is None else (to_us(covered), top or 0)
        for bucket in list(self._pending):
            kept = {
                key: tick
                for key, tick in self._pending[bucket].items()
                if not self._stored(key, tick)
                and not (trades and tick.order < (top or 0) and began - tick.heard_s > REFUSED_AFTER_S)
            }
            if kept:
                self._pending[bucket] = kept
            else:
                del self._pending[bucket]
        self._count = sum(map(len, self._pending.values()))
        if self._dropped is not None:
            key, at = self._dropped
            read_on = (top or 0) >= key[1] if trades else self._stored_to is not None and self._stored_to >= key
            if read_on or began - at > REFUSED_AFTER_S:
                self._dropped = None

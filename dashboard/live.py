"""The running candle: what the database had at one moment, and the ticks of the topic that were not in it yet.

The database's candle and its ledger are read in one statement, hence of one moment. A tick that the ledger contains is
in the candle, any other is added to it here: so nothing counts twice and nothing is missed, and what is shown equals
what the database will say once it has stored the same ticks. Between two such readings the candle moves with the topic
alone. It is read again when ticks of an older candle came (its end, a repair) or when many ticks piled up.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dashboard.feed import Tick
from dashboard.frames import Frame
from dashboard.market import SQL, Instrument, text_of
from dashboard.store import Store
from pipeline.ledger import from_us, to_us
from pipeline.process import now_us

# Ticks that are kept beside the database's candle; a piece of 2,000 is merged in 2 ms.
PILE = 2_000
# The writer has stored later ticks of the topic and not this one for so long: it refused it.
REFUSED_AFTER_S = 60.0
# How far below the least id in hand the ledger is read, for ticks that come while it is.
SLACK = 1_000_000
_NO_END = 1 << 63

Key = tuple[int, int]


@dataclass(slots=True)
class Candle:
    """Open and close belong to the least and the greatest key, as in the database."""

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
        if other.first < self.first:
            self.open, self.first = other.open, other.first
        if other.last > self.last:
            self.close, self.last = other.close, other.last
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.volume += other.volume
        if self.turnover is not None and other.turnover is not None:
            self.turnover += other.turnover
        self.ticks += other.ticks

    def row(self, bucket_us: int) -> list[Any]:
        """As the rows of `/api/candles`."""
        vwap = None
        if self.turnover is not None and self.volume:
            vwap = text_of(round(self.turnover / self.volume, 10))
        prices = map(text_of, (self.open, self.high, self.low, self.close, self.volume))
        return [bucket_us // 1_000_000, *prices, vwap, self.ticks]


class LiveCandles:
    """Candles of one instrument and frame that are still moving, for one reader."""

    def __init__(self, store: Store, instrument: Instrument, frame: Frame) -> None:
        self._store = store
        self._one = instrument
        self._frame = frame
        self._bases: dict[int, Candle | None] = {}
        self._pending: dict[int, dict[Key, Tick]] = {}
        self._newest_us = 0
        self._synced = False
        self._covered: list[tuple[int, int]] = []  # trade ids that the candles read last contain, end excluded
        self._stored_to: Key | None = None  # tickers come in order: the newest in the candles read last
        self.received_at_us = 0

    def _key(self, tick: Tick) -> Key:
        if self._one.kind == "trades":  # inside a stored candle by id, candles by time
            return tick.timestamp_us - tick.timestamp_us % self._frame.source_us, tick.order
        return tick.timestamp_us, tick.order

    def _stored(self, key: Key, tick: Tick) -> bool:
        if self._one.kind != "trades":
            return self._stored_to is not None and key <= self._stored_to
        at = bisect_right(self._covered, (tick.order, _NO_END))
        return at > 0 and tick.order < self._covered[at - 1][1]

    def add(self, tick: Tick) -> int:
        """Take a tick; returns the start of its candle, µs."""
        bucket = self._frame.bucket_us(tick.timestamp_us)
        if self._stored(self._key(tick), tick):
            return bucket
        self._pending.setdefault(bucket, {})[self._key(tick)] = tick
        self._newest_us = max(self._newest_us, bucket)
        self.received_at_us = max(self.received_at_us, tick.received_at_us)
        return bucket

    @property
    def wants_sync(self) -> bool:
        """Whether the database should be read again: see the module's text."""
        older = any(bucket != self._newest_us for bucket in self._pending)
        return not self._synced or older or sum(map(len, self._pending.values())) > PILE

    def row(self, bucket: int) -> list[Any] | None:
        """The candle as it is now; None while it is not known. A candle newer than any that was read has no past."""
        if not self._synced or (bucket not in self._bases and bucket < self._newest_us):
            return None
        made: Candle | None = None
        base = self._bases.get(bucket)
        if base is not None:
            made = Candle(*(getattr(base, name) for name in Candle.__slots__))
        for key, tick in self._pending.get(bucket, {}).items():
            turnover = tick.price * tick.size if self._one.kind == "trades" else None
            price = tick.price
            piece = Candle(price, price, price, price, tick.size, turnover, 1, key, key)
            if made is None:
                made = piece
            else:
                made.add(piece)
        return None if made is None else made.row(bucket)

    async def sync(self) -> list[int]:
        """Read candles and ledger; returns the starts of the candles that are known now. Raises `Unavailable`."""
        wanted = {*self._pending, self._newest_us, self._frame.bucket_us(now_us())} - {0}
        ids = [t.order for ticks in self._pending.values() for t in ticks.values()]
        began = time.monotonic()
        rows = await self._store.rows(
            (SQL / ("live_trades.sql" if self._one.kind == "trades" else "live_quotes.sql")).read_text()
            .replace(":source", self._frame.source),
            {"id": self._one.instrument_id, "buckets": [from_us(b) for b in sorted(wanted)],
             "width": f"{self._frame.width_us} microseconds", "low": min(ids) - SLACK if ids else None, "slack": SLACK},
        )  # fmt: skip
        wanted |= {self._frame.bucket_us(to_us(row[2])) for row in rows if row[2] is not None}
        self._bases = dict.fromkeys(wanted)
        for row in rows:
            if row[2] is not None:
                self._merge(row[2:])
        if rows:
            self._drop_stored(rows[0][0], rows[0][1], began)
        self._newest_us = max(self._newest_us, *wanted) if self._newest_us else max(wanted)
        if self._bases.get(self._newest_us) is None and self._newest_us not in self._pending:
            known = [b for b, candle in self._bases.items() if candle is not None or b in self._pending]
            self._newest_us = max(known, default=self._newest_us)
        self._synced = True
        return sorted(wanted)

    def _merge(self, row: tuple[Any, ...]) -> None:
        bucket, open_, high, low, close, volume, turnover, ticks, first_ts, first, last_ts, last = row
        piece = Candle(
            open_, high, low, close, volume, turnover, ticks, (to_us(first_ts), first), (to_us(last_ts), last)
        )
        start = self._frame.bucket_us(to_us(bucket))
        base = self._bases.get(start)
        if base is None:
            self._bases[start] = piece
        else:
            base.add(piece)

    def _drop_stored(self, covered: Any, top: int | None, began: float) -> None:
        """Forget the ticks that the candles just read contain, and those that the writer has refused."""
        trades = self._one.kind == "trades"
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

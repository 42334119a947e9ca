"""The tape: every trade of a product as a pure function of (seed, product), reachable by id and by time.

Trades come in orders of one to five fills. 64 orders make a block of fixed length with a fixed number of trades,
so id and time lead to each other by arithmetic, in both directions, without memory: a simulator that is started
again goes on with the same tape. Commands can change the tape (`Hole`, `Burst`); these edits are part of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from simulator.market import MARKET_START_NS, SECOND_NS, Int, Product, key_of, uniform

ORDERS_PER_BLOCK = 64
# Quotes are made 6.4 s at a time: one by one they cost 0.2 ms each, this way 0.02 ms.
_QUOTES_PER_PAGE = 64
FIRST_ID = 1


def fixed(value: int, decimals: int) -> str:
    """The exact decimal text of an integer that counts units of 10^-decimals."""
    if decimals == 0:
        return str(value)
    digits = str(value).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def trimmed(value: int, decimals: int) -> str:
    """As `fixed`, without trailing zeros, the way Coinbase writes numbers."""
    return fixed(value, decimals).rstrip("0").rstrip(".") if decimals else str(value)


class Trade(NamedTuple):
    """One trade: `price` and `quantity` count units of the product's decimals; `order` groups one taker's fills."""

    trade_id: int
    ts_ns: int
    price: int
    quantity: int
    buy: bool  # the taker bought
    market: bool  # the taker's order was a market order
    order: int


@dataclass(frozen=True)
class Trades:
    """Trades by column, ascending by id."""

    ids: Int
    ts_ns: Int
    price: Int
    quantity: Int
    buy: Int
    market: Int
    order: Int

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> list[Trade]:
        """The same as named tuples of Python numbers."""
        columns = (self.ids, self.ts_ns, self.price, self.quantity, self.buy, self.market, self.order)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [Trade(i, t, p, q, bool(b), bool(m), o) for i, t, p, q, b, m, o in rows]


@dataclass(frozen=True)
class Hole:
    """Ids that the venue never used."""

    first_id: int
    last_id: int


@dataclass(frozen=True)
class Burst:
    """`count` extra trades within `span_ns` from `start_ns`, inserted before the tape's own trade `before`."""

    before: int
    count: int
    start_ns: int
    span_ns: int


@dataclass
class Edits:
    """What commands changed on one product's tape."""

    holes: list[Hole] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)

    def as_json(self) -> dict[str, list[dict[str, int]]]:
        return {"holes": [vars(hole) for hole in self.holes], "bursts": [vars(burst) for burst in self.bursts]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Edits:
        return cls([Hole(**hole) for hole in data["holes"]], [Burst(**burst) for burst in data["bursts"]])


class Tape:
    """The market of one product. Ids are contiguous from 1 at 2020-01-01, except where a `Hole` was made."""

    def __init__(self, product: Product, seed: int, edits: Edits | None = None) -> None:
        self.product = product
        self.seed = seed
        self.edits = edits or Edits()
        self._quotes: dict[int, list[int]] = {}
        self._keys = {name: key_of(seed, product.venue, product.symbol, name) for name in _STREAMS}
        weights = np.array(product.fills) / sum(product.fills)
        order = np.arange(ORDERS_PER_BLOCK, dtype=np.int64)
        drawn = uniform(self._keys["pattern"], order)
        sizes = 1 + np.searchsorted(np.cumsum(weights)[:-1], drawn, side="right").astype(np.int64)
        self.trades_per_block = int(sizes.sum())
        step = product.time_step_ns
        self.block_ns = max(1, round(self.trades_per_block / product.rate * SECOND_NS / step)) * step
        self._order_of = np.repeat(order, sizes)
        starts = np.cumsum(sizes) - sizes
        self._fill_of = np.arange(self.trades_per_block, dtype=np.int64) - starts[self._order_of]
        # Exponential waits give quiet and busy moments; the added constant leaves room for an order's fills.
        waits = -np.log(1.0 - uniform(self._keys["pattern"], order + 1000)) + 0.05
        ends = np.cumsum(waits) / waits.sum()
        self._room = np.diff(ends, prepend=0.0) * self.block_ns
        self._offset = ends * self.block_ns - self._room

    # -- the tape as the seed made it, by running number from 0 --------------------------------------------------

    def _times(self, number: Int) -> Int:
        block, rest = np.divmod(number, self.trades_per_block)
        order = self._order_of[rest]
        serial = block * ORDERS_PER_BLOCK + order
        jitter = uniform(self._keys["time"], serial) * 0.9 * self._room[order]
        # Fills of one order share their nanosecond more often than not; the others are up to 0.7 us apart.
        apart = np.where(uniform(self._keys["apart"], serial) < 0.6, 0.0, 1.0) * 700.0 * self._fill_of[rest]
        ts = MARKET_START_NS + block * self.block_ns + (self._offset[order] + jitter + apart).astype(np.int64)
        return np.asarray(ts - ts % self.product.time_step_ns, dtype=np.int64)

    def _count_until(self, ts_ns: int) -> int:
        """How many of the seed's trades have a time <= ts_ns."""
        block = (ts_ns - MARKET_START_NS) // self.block_ns
        if block < 0:
            return 0
        first = block * self.trades_per_block
        times = self._times(np.arange(first, first + self.trades_per_block, dtype=np.int64))
        return int(first + np.searchsorted(times, ts_ns, side="right"))

    # -- ids --------------------------------------------------------------------------------------------------------

    def _burst_times(self, burst: Burst) -> Int:
        orders = np.arange(burst.count, dtype=np.int64) // 3  # three fills share a nanosecond
        share = orders / (burst.count // 3 + 1)
        ts = burst.start_ns + (share * burst.span_ns).astype(np.int64)
        return np.asarray(ts - ts % self.product.time_step_ns, dtype=np.int64)

    def last_id_at(self, ts_ns: int) -> int:
        """Return the newest id with a time <= ts_ns (0 if there is none); it may lie in a hole."""
        count = self._count_until(ts_ns)
        extra = 0
        for burst in self.edits.bursts:
            if burst.before < count:
                extra += burst.count
            elif burst.before == count:
                extra += int(np.searchsorted(self._burst_times(burst), ts_ns, side="right"))
        return FIRST_ID - 1 + count + extra

    def trades(self, first_id: int, last_id: int) -> Trades:
        """The trades with first_id <= id <= last_id that exist."""
        first, last = max(first_id, FIRST_ID) - FIRST_ID, last_id - FIRST_ID
        parts: list[Trades] = []
        position = shift = 0  # of the next id (counted from 0), and how many burst trades came before it
        for burst in sorted(self.edits.bursts, key=lambda b: b.before):
            burst_first = burst.before + shift
            self._add(parts, max(first, position), min(last, burst_first - 1), shift, None)
            self._add(parts, max(first, burst_first), min(last, burst_first + burst.count - 1), burst_first, burst)
            position, shift = burst_first + burst.count, shift + burst.count
        self._add(parts, max(first, position), last, shift, None)
        columns = ("ids", "ts_ns", "price", "quantity", "buy", "market", "order")
        empty = np.empty(0, dtype=np.int64)
        if len(parts) == 1:
            whole = parts[0]
        else:
            whole = Trades(*(np.concatenate([empty, *(getattr(part, c) for part in parts)]) for c in columns))
        for hole in self.edits.holes:
            if len(whole) and hole.first_id <= whole.ids[-1] and hole.last_id >= whole.ids[0]:
                keep = (whole.ids < hole.first_id) | (whole.ids > hole.last_id)
                whole = Trades(*(getattr(whole, c)[keep] for c in columns))
        return whole

    def _add(self, parts: list[Trades], first: int, last: int, shift: int, burst: Burst | None) -> None:
        if first > last:
            return
        position = np.arange(first, last + 1, dtype=np.int64)
        if burst is None:
            number = position - shift
            block, rest = np.divmod(number, self.trades_per_block)
            order, fill = block * ORDERS_PER_BLOCK + self._order_of[rest], self._fill_of[rest]
            parts.append(self._columns(position + FIRST_ID, self._times(number), order, fill))
        else:
            inside = position - shift
            order = -(burst.start_ns // 1000 + inside // 3)  # negative: never an order of the seed's own
            parts.append(self._columns(position + FIRST_ID, self._burst_times(burst)[inside], order, inside % 3))

    def _columns(self, ids: Int, ts_ns: Int, order: Int, fill: Int) -> Trades:
        product = self.product
        buy = (uniform(self._keys["side"], order) < 0.5).astype(np.int64)
        sign = 2 * buy - 1
        mid = np.rint(product.mid(self.seed, ts_ns) * 10**product.price_decimals).astype(np.int64)
        # A later fill of the same order eats deeper into the book.
        price = np.maximum(1, mid + sign * (product.half_spread() + fill * product.half_spread()))
        size = -np.log(1.0 - uniform(self._keys["size"], ids)) * 4.0 * uniform(self._keys["tail"], ids) ** 3
        quantity = np.rint(size * product.typical_quantity * 10**product.quantity_decimals).astype(np.int64)
        market = (uniform(self._keys["market"], order) < 0.3).astype(np.int64)
        return Trades(ids, ts_ns, price, np.maximum(1, quantity), buy, market, order)

    def bid_ask(self, ts_ns: int) -> tuple[int, int]:
        """Best bid and ask at a time, which move every 100 ms, in units of the product's decimals."""
        page, place = divmod(ts_ns // 100_000_000, _QUOTES_PER_PAGE)
        if page not in self._quotes:
            at = (np.arange(_QUOTES_PER_PAGE, dtype=np.int64) + page * _QUOTES_PER_PAGE) * 100_000_000
            mids = np.rint(self.product.mid(self.seed, at) * 10**self.product.price_decimals)
            if len(self._quotes) > 8:
                self._quotes.clear()
            self._quotes[page] = mids.astype(np.int64).tolist()
        mid = self._quotes[page][place]
        return max(1, mid - self.product.half_spread()), mid + self.product.half_spread()

    def last_price(self, ts_ns: int) -> int:
        """Return the price of the newest trade at a time; the bid if there was none."""
        last = self.last_id_at(ts_ns)
        found = self.trades(last - 20, last)
        return int(found.price[-1]) if len(found) else self.bid_ask(ts_ns)[0]

    def bid_ask_quantity(self, ts_ns: int) -> tuple[int, int]:
        """What stands at the best bid and at the best ask."""
        at = np.array([ts_ns // 100_000_000], dtype=np.int64)
        unit = self.product.typical_quantity * 10**self.product.quantity_decimals * 20
        return tuple(1 + int(uniform(self._keys[side], at)[0] * unit) for side in ("bid", "ask"))  # type: ignore[return-value]

    # -- edits ------------------------------------------------------------------------------------------------------

    def add_hole(self, after_id: int, count: int) -> Hole:
        """Remove `count` ids after `after_id` from the tape."""
        hole = Hole(after_id + 1, after_id + count)
        self.edits.holes.append(hole)
        return hole

    def add_burst(self, not_before_ns: int, count: int) -> Burst:
        """Put `count` trades between two trades that follow `not_before_ns`, all within 0.9 s."""
        number = self._count_until(not_before_ns)
        times = self._times(np.arange(number - 1, number + 400, dtype=np.int64))
        gaps = np.diff(times[1:])
        wide = np.flatnonzero(gaps >= min(20_000_000, int(gaps.max())))
        at = int(wide[0])
        start = int(times[1 + at]) + self.product.time_step_ns
        span = min(900_000_000, int(gaps[at]) - 2 * self.product.time_step_ns)
        if any(b.before == number + at + 1 for b in self.edits.bursts):
            return self.add_burst(int(times[2 + at]), count)
        burst = Burst(number + at + 1, count, start, span)
        self.edits.bursts.append(burst)
        return burst


_STREAMS = ("pattern", "time", "apart", "side", "size", "tail", "market", "bid", "ask")

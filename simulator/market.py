"""Products, and prices as a pure function of (seed, asset, time)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.venues import listings

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

SECOND_NS = 1_000_000_000
MARKET_START_NS = 1_577_836_800 * SECOND_NS  # 2020-01-01: trade 1 of every product; older times hold no trade

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# (period in seconds, relative amplitude): noise of many sizes added up moves like a market and needs no memory.
_OCTAVES = (
    (45 * 86400, 0.12),
    (7 * 86400, 0.04),
    (86400, 0.016),
    (6 * 3600, 0.008),
    (3600, 0.003),
    (900, 0.0015),
    (180, 0.0007),
    (40, 0.0003),
    (8, 0.0001),
)
# Two venues of one asset differ by a little that moves slowly, as arbitrage leaves it.
_VENUE_OCTAVES = ((300, 0.00004), (45, 0.00003))


def key_of(*parts: object) -> np.uint64:
    """A 64-bit key of the given words, the same on every machine and in every process."""
    text = "/".join(str(part) for part in parts)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def uniform(key: np.uint64, numbers: Int) -> Float:
    """One number in [0, 1) per integer: a counter-based generator (splitmix64), so any index costs the same."""
    x = numbers.astype(np.uint64) * _GOLDEN + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _noise(key: np.uint64, ts_ns: Int, period_ns: int) -> Float:
    """Smooth noise in [-1, 1] with the given period."""
    cell, inside = np.divmod(ts_ns, period_ns)
    share = inside / period_ns
    share = share * share * (3.0 - 2.0 * share)
    left, right = uniform(key, cell), uniform(key, cell + 1)
    return np.asarray(2.0 * (left + (right - left) * share) - 1.0, dtype=np.float64)


@dataclass(frozen=True)
class Product:
    """One product of one venue. `rate` is trades per second; `fills` the weights of 1, 2, … trades in one order."""

    venue: str
    symbol: str
    base: str
    quote: str
    price_decimals: int
    rate: float = 3.0
    quantity_decimals: int = 8
    level: float = 100.0
    typical_quantity: float = 0.05
    fills: tuple[float, ...] = (0.62, 0.2, 0.1, 0.05, 0.03)
    time_step_ns: int = 1
    offset: float = 0.0

    @property
    def canonical(self) -> str:
        """`BTC-USD`, the pipeline's own spelling."""
        return f"{self.base}-{self.quote}".upper()

    def mid(self, seed: int, ts_ns: Int) -> Float:
        """The middle price at each time, before rounding."""
        log_price = np.full(ts_ns.shape, np.log(self.level) + self.offset)
        for period_s, amplitude in _OCTAVES:
            log_price += amplitude * _noise(key_of(seed, self.base, period_s), ts_ns, period_s * SECOND_NS)
        for period_s, amplitude in _VENUE_OCTAVES:
            log_price += amplitude * _noise(key_of(seed, self.venue, self.base, period_s), ts_ns, period_s * SECOND_NS)
        return np.asarray(np.exp(log_price), dtype=np.float64)

    def half_spread(self) -> int:
        """Half the distance of bid and ask in units of the last decimal; at least one tick between them."""
        return max(1, round(self.level * float(10**self.price_decimals) * 0.00001))


# level, typical quantity, trades per second
_ASSETS: dict[str, tuple[float, float, float]] = {
    "BTC": (84000.0, 0.02, 4.0),
    "ETH": (2690.0, 0.4, 3.0),
    "SOL": (140.0, 4.0, 2.0),
    "XRP": (2.2, 300.0, 1.5),
    "ADA": (0.65, 900.0, 1.0),
    "DOGE": (0.16, 3000.0, 1.0),
    "DOT": (4.1, 120.0, 0.5),
    "LINK": (14.0, 35.0, 0.5),
    "LTC": (92.0, 5.0, 0.5),
    "AVAX": (20.0, 25.0, 0.5),
}
# Currencies and metals, which only a venue of their own lists. They move as coins do.
_CURRENCIES: dict[str, tuple[float, float, float]] = {
    "EUR": (1.085, 20_000.0, 2.0),
    "GBP": (1.27, 20_000.0, 2.0),
    "XAU": (2650.0, 10.0, 2.0),
}


def default_products(venue: str, scale: float = 1.0) -> list[Product]:
    """The venue's products: those of ten coins and three others that it lists against the dollar, and three coins
    against USDT; `scale` multiplies their rates."""
    listing = listings()[venue]
    products = []
    for quote, bases in (("USD", [*_ASSETS, *_CURRENCIES]), ("USDT", ["BTC", "ETH", "SOL"])):
        for base in (one for one in bases if one in listing.decimals):
            level, typical, rate = (_ASSETS | _CURRENCIES)[base]
            products.append(
                Product(
                    venue,
                    base + listing.separator + quote,
                    base,
                    quote,
                    listing.decimals[base],
                    rate=rate * scale / (1 if quote == "USD" else 4),
                    level=level,
                    typical_quantity=typical,
                    time_step_ns=listing.time_step_ns,
                    offset=listing.offset + (0.0 if quote == "USD" else 0.0002),
                )
            )
    return products


def load_products(venue: str, orders_per_s: float) -> list[Product]:
    """Ten products for a load test: together `orders_per_s` frames a second of one to five trades, evenly likely."""
    products = default_products(venue)[: len(_ASSETS)]
    rate = orders_per_s / len(products) * 3.0
    return [replace(product, rate=rate, fills=(0.2,) * 5) for product in products]


def product_from(venue: str, settings: dict[str, Any]) -> Product:
    """A product from configuration: the venue's default of that symbol with the given fields changed."""
    known = {product.symbol: product for product in default_products(venue)}
    symbol = settings["symbol"]
    changes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    if symbol in known:
        return replace(known[symbol], **changes)
    base, quote = symbol.replace("/", "-").split("-")
    return Product(**{"venue": venue, "base": base, "quote": quote, "price_decimals": 2, **changes})

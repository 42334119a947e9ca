"""Parse query parameters strictly: an invalid value is one sentence (`WrongUse`, status 400)."""

from __future__ import annotations

import re
from datetime import date

from aiohttp import web

from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product, canonical_venue, short
from venues.registry import product_at

LATEST_S = 7_258_118_400  # 2200-01-01, within the range of Python's datetime
FIRST_DAY, LAST_DAY = date(1971, 1, 1), date(2199, 12, 31)
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def seconds(request: web.Request, name: str) -> int:
    """Parse seconds since 1970; later times are limited to 2200."""
    return min(_whole(request, name), LATEST_S)


def number(request: web.Request, name: str, default: int, most: int) -> int:
    """Parse a count from 1, limited to `most`."""
    if name not in request.query:
        return default
    found = _whole(request, name)
    if found < 1:
        raise WrongUse(f"`{name}` must be at least 1")
    return min(found, most)


def _whole(request: web.Request, name: str) -> int:
    text = request.query.get(name)
    if text is None:
        raise WrongUse(f"`{name}` is missing")
    if not _WHOLE.fullmatch(text):
        raise WrongUse(f"`{name}` must be a whole number of at most 15 digits, not {short(text)}")
    return int(text)


def span(request: web.Request) -> tuple[int, int]:
    """Parse `from` and `to` into microseconds since 1970."""
    begin, end = seconds(request, "from") * 1_000_000, seconds(request, "to") * 1_000_000
    if begin > end:
        raise WrongUse("`from` is after `to`")
    return begin, end


def day(request: web.Request, name: str) -> date | None:
    """Parse a day like 2026-11-21; None if it is not given."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        found = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not FIRST_DAY <= found <= LAST_DAY:
        raise WrongUse(f"`{name}` must be a day like 2026-11-21 between {FIRST_DAY.year} and {LAST_DAY.year}")
    return found


def product(request: web.Request) -> str:
    """Parse `product` into its canonical form."""
    if not request.query.get("product", "").strip():
        raise WrongUse("`product` is missing")
    return canonical_product(request.query["product"])


def venue_and_product(request: web.Request) -> tuple[str, str]:
    """Parse `venue` and `product` into their canonical forms; XBT/USD, btcusd and Kraken are accepted."""
    for name in ("venue", "product"):
        if not request.query.get(name, "").strip():
            raise WrongUse(f"`{name}` is missing")
    venue = canonical_venue(request.query["venue"])
    return venue, product_at(venue, request.query["product"])

"""Canonical names of venues and products, used by every program, query and page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from pipeline.core.errors import WrongUse

AssetClass = Literal["crypto", "forex", "metal", "commodity", "index", "stock", "bond"]
Origin = Literal["live", "snapshot", "history", "repair"]
TakerSide = Literal["buy", "sell", "unknown"]
ORIGINS: tuple[str, ...] = get_args(Origin)
TAKER_SIDES: tuple[str, ...] = get_args(TakerSide)
MAX_ID = 1 << 62  # trade ids are less than this
# An id further than this from all others needs a second source: a single trade with a wrong id would make all ids up to
# it missing. The busiest pairs make some 100,000 trades an hour.
ID_JUMP = 1_000_000

# Product ids: base and quote of letters and digits, case-insensitive (Kraken has AAPLx/USD); a base may contain dots
# (BRENT.CMD). The longest base seen at a venue has 17 characters.
_PRODUCT = re.compile(
    r"(?P<base>[A-Z0-9]+(?:\.[A-Z0-9]+)*)(?:[/-](?P<quote>[A-Z0-9]{2,20}))?", re.ASCII | re.IGNORECASE
)
_BASE_MAX = 30
_TEXT_MAX = 64  # including blanks around it; a venue that pads names would otherwise fill our caches
_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "BTC", "ETH")
_VENUE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_VENUE_MAX = 40
_ALIASES = {"XBT": "BTC"}  # former names of an asset, at any venue


def canonical_product(text: str, aliases: Mapping[str, str] | None = None) -> str:
    """Return the canonical product id: `BTC-USD` for `BTC/USD`, `btc-usd`, `BTCUSD` and `XBT/USD`, `BRENTCMD-USD` for
    `BRENT.CMD/USD`.

    Without a separator, the quote currency is recognised by its code; otherwise it is the last three letters.
    `aliases`: a venue's own asset names -> the usual ones; `venues.registry.product_at` knows them. Raises `WrongUse`
    for what cannot be a product.
    """
    if len(text) > _TEXT_MAX:
        raise _refused(text)
    name = text.strip(" \t\r\n")
    match = _PRODUCT.fullmatch(name) if name.isascii() else None
    if match is None:
        raise _refused(text)
    base, quote = match["base"].upper().replace(".", ""), (match["quote"] or "").upper()
    if not quote:
        base, quote = _split(base)
    if not base or len(base) > _BASE_MAX:
        raise _refused(text)
    names = {**_ALIASES, **aliases} if aliases else _ALIASES
    return f"{names.get(base, base)}-{names.get(quote, quote)}"


def canonical_venue(text: str) -> str:
    """`Kraken` -> `kraken`. Raises `WrongUse` for an invalid name."""
    name = text.strip(" \t\r\n").lower()
    if len(name) > _VENUE_MAX or not text.isascii() or not _VENUE.fullmatch(name):
        raise WrongUse(f"{short(text)} is not a valid venue; write it like kraken or dukascopy.")
    return name


def _split(name: str) -> tuple[str, str]:
    """`BTCUSD` -> `BTC`, `USD`; an empty base if it is ambiguous."""
    known = next((quote for quote in _QUOTES if name.endswith(quote) and len(name) > len(quote) + 1), "")
    if not known and (name[-3:] in _QUOTES or len(name) > 5):
        known = name[-3:]  # TUSD is T-USD; USDTRY and other pairs of currencies have three letters each
    return (name.removesuffix(known), known) if known else ("", "")


def _refused(text: str) -> WrongUse:
    return WrongUse(f"{short(text)} is not a valid product id; write it like BTC/USD, BTC-USD or EURUSD.")


def short(text: str) -> str:
    """Quote `text` for a sentence: without control characters, and truncated."""
    return repr(text if len(text) <= 60 else text[:57] + "...")

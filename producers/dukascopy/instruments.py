"""Dukascopy's instruments: `instruments.json`, extended by the user's own file (`DUKASCOPY_INSTRUMENTS_FILE`)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import AssetClass, canonical_product
from producers.dukascopy.quotes import Quotes, bearable
from venues.market_hours import Session, session_of

VENUE = "dukascopy"
MAX_FILE_BYTES = 4 << 20
WRONG_SHOWN = 20


class _Entry(BaseModel):
    """One instrument of a file. `band`: a median bid outside it means that `price_scale` is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset_class: AssetClass
    price_scale: int = Field(ge=0, le=12, description="decimals: price = integer / 10^price_scale")
    code: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.]+-[A-Za-z]+$", description="the JSON feed's name, BRENT.CMD-USD"
    )
    first_tick: date | None = None
    session: Session | None = None
    band: tuple[Decimal, Decimal] | None = None
    holidays: tuple[tuple[int, int], ...] = Field((), description="closed times, [from, till) in ms since 1970")


@dataclass(frozen=True)
class Instrument:
    """`symbol` is bi5's name (BRENTCMDUSD), `code` the JSON feed's (BRENT.CMD-USD), `product_id` ours."""

    symbol: str
    code: str
    product_id: str
    asset_class: AssetClass
    price_scale: int
    session: Session
    first_tick_us: int | None
    band: tuple[Decimal, Decimal] | None
    holidays_ms: tuple[tuple[int, int], ...] = ()
    vendor_scale: int | None = None  # as the vendor describes it; None: not known
    vendor_first_us: int | None = None  # the vendor's first tick; only where the catalogue has none

    def check_price(self, quotes: Quotes) -> None:
        """Raise `BadData("price")` if the median bid is implausible, because a wrong scale would go unnoticed. Raise
        `WrongAnswer` if more than a few prices are not positive."""
        if not len(quotes):
            return
        if self.asset_class != "commodity" and not (quotes.bid.min() > 0 < quotes.ask.min()):  # oil was below zero
            bearable(quotes, int(((quotes.bid <= 0) | (quotes.ask <= 0)).sum()), "have a price that is not positive")
        if self.band is None:
            return
        median = quotes.median_price(self.price_scale)
        if not self.band[0] <= median <= self.band[1]:
            raise BadData(
                "price",
                f"{self.symbol}: the median price {median} is outside {self.band[0]}..{self.band[1]}; is "
                f"price_scale {self.price_scale} right? Correct it, or the band, in DUKASCOPY_INSTRUMENTS_FILE.",
            )


def _instrument(symbol: str, entry: _Entry) -> Instrument:
    product = canonical_product(symbol)
    code = (entry.code or product).upper()
    first = entry.first_tick
    return Instrument(
        symbol,
        code,
        product,
        entry.asset_class,
        entry.price_scale,
        entry.session or session_of(entry.asset_class, code),
        int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1_000_000 if first else None,
        entry.band,
        entry.holidays,
    )


def symbol_of(name: str) -> str:
    """Return bi5's name for user input: `EUR/USD`, `eur-usd`, `brent.cmd-usd`, `XBTUSD` -> `EURUSD` ... `BTCUSD`."""
    symbol = "".join(c for c in name.upper() if c.isalnum())
    return "BTC" + symbol[3:] if symbol.startswith("XBT") else symbol


def _text(file: Path) -> str:
    """Read a JSON file in any Unicode encoding. Raises `WrongUse`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise WrongUse(f"DUKASCOPY_INSTRUMENTS_FILE: {file} is larger than {MAX_FILE_BYTES >> 20} MB.")
        return content.decode(json.detect_encoding(content))
    except OSError as error:
        raise WrongUse(f"DUKASCOPY_INSTRUMENTS_FILE: {file} cannot be read ({error.strerror}).") from None
    except UnicodeError:
        raise WrongUse(f"DUKASCOPY_INSTRUMENTS_FILE: {file} is not UTF-8 or UTF-16; save it as UTF-8.") from None


def catalogue(own_file: Path | None = None) -> dict[str, Instrument]:
    """Return all instruments by bi5 symbol. Raises `WrongUse` listing all errors of the user's file."""
    ours = resources.files(__name__.rpartition(".")[0]).joinpath("instruments.json").read_text("utf-8")
    known = _read("instruments.json", ours)
    return known if own_file is None else known | _read(str(own_file), _text(own_file))


def _read(name: str, text: str) -> dict[str, Instrument]:
    try:
        entries = json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise WrongUse(f"{name}: must be a JSON object of instruments ({error}).") from None
    if not isinstance(entries, dict):
        raise WrongUse(f'{name}: must be a JSON object of instruments, {{"EURUSD": {{…}}}}.')
    found: dict[str, Instrument] = {}
    wrong: list[str] = []
    for key, entry in entries.items():
        try:
            found[symbol_of(key)] = _instrument(symbol_of(key), _Entry.model_validate(entry))
        except ValidationError as error:
            for one in error.errors()[:WRONG_SHOWN]:
                place = ".".join(str(part) for part in one["loc"])
                wrong.append(f"{name}: {key}: {place + ': ' if place else ''}{one['msg']}.")
        except WrongUse as error:
            wrong.append(f"{name}: {key}: {error}")
    if wrong:
        raise WrongUse("\n".join(wrong[:WRONG_SHOWN]))
    return found


def chosen(names: Iterable[str], known: dict[str, Instrument]) -> list[Instrument]:
    """Return the instruments with these names (`EURUSD`, `EUR/USD`, `brent.cmd-usd`), without duplicates. Raises
    `WrongUse`."""
    found: dict[str, Instrument] = {}
    for name in names:
        symbol = symbol_of(name)
        if symbol not in known:
            near = difflib.get_close_matches(symbol, known, n=3, cutoff=0.6)
            hint = f" did you mean {', '.join(near)}?" if near else ""
            raise WrongUse(
                f"unknown instrument {name!r};{hint or ' see producers/dukascopy/instruments.json.'} "
                f'Add others in a JSON file named by DUKASCOPY_INSTRUMENTS_FILE: {{"{symbol or "EURUSD"}": '
                '{"asset_class": CLASS, "price_scale": N}}, where CLASS is one of '
                f"{', '.join(get_args(AssetClass))}, and N the number of decimals of the vendor's prices."
            )
        found[symbol] = known[symbol]
    return list(found.values())

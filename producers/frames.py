"""What a frame of a venue says, in terms that all venues share. A venue's `wire` module turns bytes into these."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.errors import BadData

Row = dict[str, Any]  # an element of trades.avsc or candles.avsc, or the values of ticker.avsc

_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,2}")
# Floats never: the digits of a JSON number are kept as text. C-speed as long as only these hooks are set.
_JSON = json.JSONDecoder(parse_float=str, parse_constant=lambda text: _no_number(text))


@dataclass(frozen=True, slots=True)
class TradeFrame:
    """Trades of one product in the venue's order."""

    product_id: str
    rows: list[Row]
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class TickerFrame:
    """Best bid and ask; `timestamp_us` None where the venue gives no time."""

    product_id: str
    timestamp_us: int | None
    values: Row
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class CandleFrame:
    """Candles that the venue made itself; `final` is decided by whoever publishes them."""

    product_id: str
    as_of_us: int
    granularity_s: int
    rows: list[Row]
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The venue accepted a subscription."""

    channel: str
    product_id: str


@dataclass(frozen=True, slots=True)
class SubscriptionRefused:
    """The venue refused a subscription; without a product where it named none."""

    channel: str | None
    product_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class VenueNotice:
    """The venue's own state or complaint, for the log."""

    kind: str  # status, error
    text: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame, or one element of it, that the venue's format does not explain."""

    reason: str  # json, shape, price, time ...
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class FramesLost:
    """The venue's own numbers say that frames did not arrive. Lost trades show in the ledger and are repaired."""

    count: int


Said = (
    TradeFrame | TickerFrame | CandleFrame | Acknowledged | SubscriptionRefused | VenueNotice | FramesLost | Unreadable
)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def parse_json(text: bytes | str) -> Any:
    """JSON with numbers as the venue wrote them (fractions as text, integers as int). Raises `BadData("json")`."""
    try:
        return _JSON.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise BadData("json", f"{type(error).__name__}: {error}") from None


def decimal_text(value: Any) -> str:
    """A price or size as the venue wrote it; only scientific notation is written out. Raises `BadData("decimal")`."""
    text = value if type(value) is str else str(value) if type(value) is int else ""
    if _PLAIN.fullmatch(text):
        return text
    if _SCIENTIFIC.fullmatch(text):
        return format(Decimal(text), "f")
    raise BadData("decimal", f"{value!r} is no decimal number")


def whole_number(value: Any) -> int:
    """A trade id: an int, or digits. Raises `BadData("trade_id")`."""
    if type(value) is int and value >= 0:
        return value
    if type(value) is str and value.isdecimal() and value.isascii():
        return int(value)
    raise BadData("trade_id", f"{value!r} is no trade id")


def explained(error: Exception, element: Any) -> Unreadable:
    """What to say of an element that could not be read."""
    payload = element if isinstance(element, bytes) else json.dumps(element, default=str).encode()
    if isinstance(error, BadData):
        return Unreadable(error.reason, str(error), payload)
    return Unreadable("shape", f"{type(error).__name__}: {error}", payload)

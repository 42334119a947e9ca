"""Events that all venues share. A venue's `parse` module turns frames into these."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import MAX_ID
from pipeline.core.times import END_US, OLDEST_US
from schemas.records import CandleRow, Quote, TradeRow

T = TypeVar("T")

# Elements of JSON: commas and opening brackets. The largest real frames, snapshots of a thousand trades, have some
# 8,000; the largest answer of REST, the list of Kraken's markets, has some 130,000. Measured: a million tiny ones in
# 1 MB become a million objects and 70 MB.
MAX_ELEMENTS, MAX_REST_ELEMENTS = 50_000, 1_000_000
# Unreadable elements of one frame that are reported one by one; the rest are counted.
MAX_BAD_ELEMENTS = 20
MAX_DETAIL = 500
MAX_DIGITS = 64  # of a decimal; the longest seen from a venue have some 30

# What parsing an untrusted value may raise.
READING = (BadData, WrongUse, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)

_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,2}")
# No floats: the digits of a JSON number are kept as text. The C decoder is used as long as only these hooks are set.
# NaN is kept as text too, so that it invalidates its element, not the frame.
_JSON = json.JSONDecoder(parse_float=str, parse_constant=str)


@dataclass(frozen=True, slots=True)
class TradeFrame:
    """Trades of one product, in the venue's order."""

    product_id: str
    rows: list[TradeRow]
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class TickerFrame:
    """Best bid and ask. `timestamp_us` is None where the venue gives no time."""

    product_id: str
    timestamp_us: int | None
    quote: Quote
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class CandleFrame:
    """Candles made by the venue; whoever publishes them sets `final`. `as_of_us` is None where the venue gives no
    time."""

    product_id: str
    as_of_us: int | None
    granularity_s: int
    rows: list[CandleRow]
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The venue accepted a subscription. `channel` None: that of the request it answers, else all of the product's.
    `product_id` None, for venues that answer by request id only: all products of that request."""

    channel: str | None
    product_id: str | None
    request: int | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionRefused:
    """The venue refused a subscription. `product_id` is None where it named none; `request` is our request id."""

    channel: str | None
    product_id: str | None
    reason: str
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Resubscribe:
    """One channel of a product must be resubscribed to get a new snapshot, because an update was lost or a checksum is
    wrong."""

    channel: str
    product_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class VenueNotice:
    """A status or error message of the venue, for the log."""

    kind: str  # status, error, key_refused
    text: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame, or one element of it, that does not match the venue's documented format."""

    reason: str  # json, shape, price, time ...
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class FramesLost:
    """A jump in the venue's sequence numbers. Trades lost this way show in the ledger and are repaired."""

    count: int


@dataclass(frozen=True, slots=True)
class VenueTime:
    """The venue's clock when it sent this frame."""

    at_us: int


VenueEvent = (
    TradeFrame
    | TickerFrame
    | CandleFrame
    | Acknowledged
    | SubscriptionRefused
    | Resubscribe
    | VenueNotice
    | FramesLost
    | VenueTime
    | Unreadable
)


def parse_frame(frame: bytes) -> Any:
    """Parse a WebSocket frame as JSON, as `parse_json` does, but of fewer elements."""
    return parse_json(frame, MAX_ELEMENTS)


def parse_json(text: bytes, most: int = MAX_REST_ELEMENTS) -> Any:
    """Decode JSON; numbers with a fraction stay text as written, integers become int. Raises `BadData("json")`, or
    `BadData("size")` if it holds more than `most` elements."""
    check_elements(text, most)
    try:
        return _JSON.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise BadData("json", f"{type(error).__name__}: {str(error)[:MAX_DETAIL]}") from None


def check_elements(text: bytes | str, most: int) -> None:
    """Raise `BadData("size")` if decoding would take memory out of proportion: megabytes of brackets are gigabytes."""
    marks: Any = ",[{" if isinstance(text, str) else (b",", b"[", b"{")
    count = sum(map(text.count, marks))
    if count > most:
        raise BadData("size", f"JSON of {len(text)} bytes holds {count} elements; the limit is {most}")


def decimal_text(value: Any) -> str:
    """Return a price or size as the venue wrote it; scientific notation is expanded. Raises `BadData("decimal")`."""
    text = value if type(value) is str else str(value) if type(value) is int and abs(value) < MAX_ID else ""
    if len(text) <= MAX_DIGITS:
        if _PLAIN.fullmatch(text):
            return text
        if _SCIENTIFIC.fullmatch(text) and len(written := format(Decimal(text), "f")) <= MAX_DIGITS:
            return written
    raise BadData("decimal", f"{_shown(value)} is not a decimal number")


def whole_number(value: Any) -> int:
    """Parse a trade id: an int or decimal digits, below `MAX_ID`. Raises `BadData("trade_id")`."""
    if type(value) is str and len(value) <= 19 and value.isdecimal() and value.isascii():
        value = int(value)
    if type(value) is int and 0 <= value < MAX_ID:
        return value
    raise BadData("trade_id", f"{_shown(value)} is not a trade id")


def sane_time(timestamp_us: int) -> int:
    """Return the time unchanged if it lies within the years [2000, 2100). Raises `BadData("time")`."""
    if OLDEST_US <= timestamp_us < END_US:
        return timestamp_us
    raise BadData("time", f"{_shown(timestamp_us)} us since 1970 is not a time between 2000 and 2100")


def _shown(value: Any) -> str:
    if type(value) is int and abs(value) >= MAX_ID:
        return f"an integer of {value.bit_length()} bits"  # its decimal text is slow to make, or refused by Python
    return repr(value)[:100]


def unreadable(error: Exception, element: Any) -> Unreadable:
    """Return the event for an element whose parsing raised `error`."""
    if isinstance(element, bytes):
        payload = element
    else:
        try:
            payload = json.dumps(element, default=str).encode()
        except (ValueError, RecursionError):
            payload = b""
    detail = str(error)[:MAX_DETAIL]
    if isinstance(error, BadData):
        return Unreadable(error.reason, detail, payload)
    return Unreadable("shape", f"{type(error).__name__}: {detail}", payload)


class BadElements:
    """Collects the unreadable elements of one frame: the first ones in full, the others as a count."""

    def __init__(self) -> None:
        self.events: list[VenueEvent] = []
        self._more = 0

    def add(self, error: Exception, element: Any) -> None:
        """Add an element whose parsing raised `error`."""
        if len(self.events) < MAX_BAD_ELEMENTS:
            self.events.append(unreadable(error, element))
        else:
            self._more += 1

    def all(self) -> list[VenueEvent]:
        """Return an `Unreadable` for each of the first elements, and one for the count of the others."""
        if not self._more:
            return self.events
        return [*self.events, Unreadable("too_many", f"{self._more} more elements of the same frame", b"")]

    def tried(self, read: Callable[[Any], T | None], element: Any) -> T | None:
        """Return `read(element)`; if that raises one of `READING`, add the element and return None."""
        try:
            return read(element)
        except READING as error:
            self.add(error, element)
            return None

    def each(self, elements: Iterable[Any], read: Callable[[Any], T | None]) -> list[T]:
        """Return `read(element)` for each element, without None; unreadable elements are added and skipped."""
        return [made for element in elements if (made := self.tried(read, element)) is not None]

    def statistics(self, element: dict[str, Any], names: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Parse optional figures of a ticker, `names` being (our name, the venue's). A bad one is reported and
        omitted."""
        values = {}
        for ours, theirs in names:
            given = element.get(theirs)
            if given is not None and given != "":
                try:
                    values[ours] = decimal_text(given)
                except BadData as error:
                    self.add(BadData("statistic", f"{theirs}: {error}"), element)
        return values

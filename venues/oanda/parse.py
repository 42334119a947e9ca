"""Parse OANDA's payloads: pure functions (developer.oanda.com, "v20 REST API: Pricing Endpoints").

Lines of `GET /v3/accounts/<account>/pricing/stream?instruments=EUR_USD,USD_JPY`, beginning with the current prices::

    {"type":"PRICE","time":"2016-10-27T08:38:43.094548890Z","bids":[{"price":"114.308","liquidity":1000000},...],
     "asks":[{"price":"114.312","liquidity":1000000},...],"closeoutBid":"114.304","closeoutAsk":"114.316",
     "status":"tradeable","tradeable":true,"instrument":"EUR_JPY"}
    {"type":"HEARTBEAT","time":"2016-10-27T08:38:45.664613867Z"}

Refusals, `{"errorMessage":"Invalid value specified for 'instruments'"}`, come as a status with a reason from
`producers.live.line_stream`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import BadData
from venues.events import (
    MAX_DETAIL,
    READING,
    TickerFrame,
    VenueEvent,
    VenueTime,
    parse_frame,
    unreadable,
)
from venues.oanda.symbols import product_of
from venues.rows import iso_time, quote_of


@dataclass(frozen=True)
class Status:
    """The outcome of a request. `reason` is empty if it was granted."""

    granted: bool
    reason: str


def read(line: bytes) -> list[VenueEvent] | Status:
    """Parse a line. Never raises: unknown types are ignored, a malformed line becomes `Unreadable`."""
    try:
        message = parse_frame(line)
        if "status" in message and "type" not in message:
            return _status(message)
        if message["type"] == "HEARTBEAT":
            return [VenueTime(iso_time(message["time"]))]
        return _price(message) if message["type"] == "PRICE" else []
    except READING as error:
        return [unreadable(error, line)]


def _status(message: dict[str, Any]) -> Status:
    status = message["status"]
    if type(status) is not int:
        raise BadData("shape", f"a status is a number, not {type(status).__name__}")
    reason = str(message.get("reason", ""))
    with suppress(*READING):  # otherwise it is a page of a proxy or firewall: kept as text
        reason = str(parse_frame(reason.encode())["errorMessage"])
    return Status(status == 200, "" if status == 200 else f"{status} {reason}"[:MAX_DETAIL])


def _price(message: dict[str, Any]) -> list[VenueEvent]:
    """Return the best bid and ask; a price with an empty side is ignored."""
    if not message["bids"] or not message["asks"]:
        return []
    bid, ask = message["bids"][0], message["asks"][0]
    quote = quote_of(bid["price"], ask["price"], bid["liquidity"], ask["liquidity"])
    return [TickerFrame(product_of(message["instrument"]), iso_time(message["time"]), quote)]

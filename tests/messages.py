"""Messages for tests: records of each kind with defaults, and hours of quotes."""

from __future__ import annotations

from typing import Any

import numpy as np

from consumers.sink import DeadLetters, MessageSlice
from consumers.subscription import Message
from schemas import encode
from schemas.columns import encode_quote_hour
from schemas.records import HourHeader

T0_US = 1_700_000_000_000_000 // 3_600_000_000 * 3_600_000_000  # a whole hour in November 2023


def trade(
    trade_id: int, at_us: int | None = None, price: str = "100.5", quantity: str = "0.25", side: str = "buy"
) -> Any:
    at = T0_US + trade_id * 1_000_000 if at_us is None else at_us
    return {"trade_id": trade_id, "timestamp_us": at, "price": price, "quantity": quantity, "taker_side": side}


def trades_record(trades: list[Any], product: str = "BTC-USD", venue: str = "kraken", **fields: Any) -> dict[str, Any]:
    return {
        "venue": venue,
        "product_id": product,
        "asset_class": "crypto",
        "origin": "live",
        "received_at_us": T0_US,
        "trades": trades,
        "holes": [],
        **fields,
    }


def ticker_record(
    at_us: int = T0_US, seq: int = 0, bid: str = "100", ask: str = "101", **fields: Any
) -> dict[str, Any]:
    return {
        "venue": "kraken",
        "product_id": "BTC-USD",
        "asset_class": "crypto",
        "origin": "live",
        "received_at_us": at_us,
        "timestamp_us": at_us,
        "timestamp_is_received": False,
        "seq": seq,
        "bid": bid,
        "ask": ask,
        "bid_size": "1",
        "ask_size": "2",
        **fields,
    }


def hour_bytes(
    offset_ms: list[int], bid: list[int], ask: list[int] | None = None, size: list[int] | None = None, **header: Any
) -> bytes:
    """An hour of EUR-USD. Prices have 5 decimals, sizes none; ask defaults to bid + 2, sizes to 1000000."""
    columns = [offset_ms, bid, ask or [b + 2 for b in bid], *[size or [1_000_000] * len(bid)] * 2]
    fields: dict[str, Any] = {
        "venue": "dukascopy",
        "product_id": "EUR-USD",
        "asset_class": "forex",
        "origin": "history",
        "received_at_us": T0_US,
        "hour_start_us": T0_US,
        "status": "ticks" if offset_ms else "empty",
        "feed": "bi5",
        "fetched_at_us": T0_US,
        "price_scale": 5,
        "size_scale": 0,
        **header,
    }
    return encode_quote_hour(HourHeader(**fields), *(np.array(column, dtype=np.int64) for column in columns))


TOPIC = {
    "trades": "persistent://t/trades/kraken.btc-usd",
    "ticker": "persistent://t/tickers/kraken.btc-usd",
    "quotes": "persistent://t/quotes/dukascopy.eur-usd",
}


def received(schema: str, record: dict[str, Any] | bytes, topic: str | None = None) -> Message:
    """A message as an inbox gives it, without a broker."""
    data = record if isinstance(record, bytes) else encode(schema, record)
    return Message(topic or TOPIC[schema], data, "(1,2,-1,0)")


def parts_of(kind: Any, messages: list[Message]) -> list[MessageSlice]:
    letters = DeadLetters()
    made: list[MessageSlice] = kind.read_all(messages, letters)
    assert not letters, list(letters)
    return made


def store(kind: Any, conn: Any, messages: list[Message]) -> tuple[int, list[Any]]:
    """Store messages as one batch; (new rows, all letters)."""
    prepared = kind.prepare(parts_of(kind, messages))
    stored = prepared.store(conn)
    return stored.rows, [*prepared.letters, *stored.letters]

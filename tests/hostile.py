"""Hostile messages: every field of every schema with the values that its type allows and nobody expects."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

import schemas
from schemas.columns import COLUMNS, checksum
from tests.messages import T0_US, ticker_record, trade, trades_record

LONGS = [0, 1, -1, T0_US, 1 << 31, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63), 4_000_000_000_000_000]
INTS = [0, 1, -1, 12, 13, 60, (1 << 31) - 1, -(1 << 31)]
TEXTS = [
    "",
    "\0",
    "a\0b",
    "\x1b[2J\x07",
    "\u202e",
    "\ud7ff\ue000",
    "9" * 10_000,
    "1e9999",
    "1e-9999",
    "1E+15",
    "-1",
    "0",
    "NaN",
    "Infinity",
    "1_0",
    "\u0661",
    "1.",
    ".5",
    "1" * 16,
    "0." + "1" * 19,
    "BTC-USD",
    "nobody",
    "<script>",
    "{}",
    "x" * 100_000,
]


def values(kind: Any) -> list[Any]:
    """Values of an Avro type; those of records and their fields are made by `mutations`."""
    if isinstance(kind, list):
        return [None, *(value for one in kind if one != "null" for value in values(one))]
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return list(kind["symbols"])
        if kind["type"] == "array":
            return [[], *([value] for value in values(kind["items"])), values(kind["items"])[:1] * 300]
        return values(kind["type"]) if kind["type"] != "record" else []
    return {"long": LONGS, "int": INTS, "string": TEXTS, "boolean": [True, False], "null": [None]}[kind]


def mutations(record: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`record` with one field changed, at any depth, in every way."""
    for field in schema["fields"]:
        name, kind = field["name"], field["type"]
        for value in values(kind):
            yield {**record, name: value}
        inner = next((one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, dict)), None)
        if inner and inner["type"] == "array" and isinstance(inner["items"], dict) and record[name]:
            for changed in mutations(record[name][0], inner["items"]):
                yield {**record, name: [changed, *copy.deepcopy(record[name][1:])]}
        elif inner and inner["type"] == "record" and record[name]:
            for changed in mutations(record[name], inner):
                yield {**record, name: changed}


def hole(first: int = 3, last: int = 4, reason: str = "venue_has_none") -> dict[str, Any]:
    return {"first_id": first, "last_id": last, "reason": reason, "confirmed_at_us": T0_US}


def candle(number: int = 0) -> dict[str, Any]:
    return {
        "bucket_us": T0_US + number * 60_000_000,
        "open": "1",
        "high": "2",
        "low": "1",
        "close": "1.5",
        "volume": "3",
        "final": True,
    }


BASE: dict[str, dict[str, Any]] = {
    "trades": trades_record([trade(1), trade(2), trade(5)], holes=[hole()]),
    "ticker": ticker_record(missed_since_us=T0_US - 1_000_000, last="1"),
    "quotes": {
        "venue": "dukascopy",
        "product_id": "EUR-USD",
        "asset_class": "forex",
        "origin": "history",
        "received_at_us": T0_US,
        "hour_start_us": T0_US,
        "status": "ticks",
        "feed": "bi5",
        "fetched_at_us": T0_US,
        "final": True,
        "price_scale": 5,
        "size_scale": 0,
        "count": 2,
        "checksum": 0,
        "offset_ms": [0, 5],
        "bid": [110_000, 110_001],
        "ask": [110_002, 110_003],
        "bid_size": [1, 2],
        "ask_size": [3, 4],
    },
    "candles": {
        "venue": "kraken",
        "product_id": "BTC-USD",
        "asset_class": "crypto",
        "origin": "history",
        "received_at_us": T0_US,
        "as_of_us": T0_US + 3_600_000_000,
        "granularity_s": 60,
        "candles": [candle(0), candle(1)],
        "state": "BTC-USD-backfill",
        "covered_from_us": T0_US,
        "covered_to_us": T0_US + 120_000_000,
        "quorum": {"exchanges": ["kraken", "binance"], "required": 1, "as_of_us": T0_US},
    },
}
NAMESPACE = {"trades": "trades", "ticker": "tickers", "quotes": "quotes", "candles": "candles"}
VENUE = {"trades": "kraken", "ticker": "kraken", "quotes": "dukascopy", "candles": "kraken"}
PRODUCT = {"trades": "BTC-USD", "ticker": "BTC-USD", "quotes": "EUR-USD", "candles": "BTC-USD"}


def encoded(name: str, record: dict[str, Any]) -> bytes:
    """Bytes of a record; an hour gets the count and the checksum that fit its columns, so that it is looked at."""
    if name == "quotes" and record["checksum"] == BASE["quotes"]["checksum"]:
        columns = [np.array(record[column], dtype=np.int64) for column in COLUMNS]
        count = len(columns[0]) if record["count"] == BASE["quotes"]["count"] else record["count"]
        record = {**record, "count": count, "checksum": checksum(*columns[:3])}
    return schemas.encode(name, record)


def damaged(data: bytes) -> Iterator[bytes]:
    """Cut anywhere, with each byte changed, with arrays and texts of a billion items announced."""
    step = max(1, len(data) // 40)
    for at in range(0, len(data), step):
        yield data[:at]
        yield data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        yield data[:at] + b"\xfe\xff\xff\xff\x0f" + data[at:]  # 2^31
        yield data[:at] + b"\xff" * 9 + b"\x01" + data[at:]  # -2^63
        yield data[:at] + b"\xff" * 40 + data[at:]  # no end


def everything(name: str) -> Iterator[bytes]:
    """All of it for one schema."""
    base = BASE[name]
    for record in mutations(base, schemas.definition(name)):
        yield encoded(name, record)
    yield from damaged(encoded(name, base))


def good(name: str, number: int) -> bytes:
    """The `number`-th message that is in order and must be stored, whatever lies around it."""
    base = BASE[name]
    if name == "trades":
        at_us = T0_US + number * 1_000
        return encoded(name, {**base, "trades": [trade(10_000_000 + number, at_us)], "holes": []})
    if name == "ticker":
        return encoded(name, {**base, "timestamp_us": T0_US + 3_600_000_000 + number * 1000, "missed_since_us": None})
    if name == "quotes":
        return encoded(name, {**base, "hour_start_us": T0_US - (1 + number) * 3_600_000_000})
    return encoded(name, {**base, "candles": [candle(-1 - number)], "state": None})


STORED = {
    "trades": "SELECT count(*) FROM trades WHERE trade_id BETWEEN 10000000 AND 20000000",
    "ticker": f"SELECT count(*) FROM quotes JOIN instruments USING (instrument_id) WHERE venue = 'kraken'"
    f" AND extract(epoch FROM ts) BETWEEN {T0_US // 10**6 + 3600} AND {T0_US // 10**6 + 7200}",
    "quotes": f"SELECT count(*) FROM quote_hours WHERE extract(epoch FROM hour) BETWEEN {T0_US // 10**6 - 10**8}"
    f" AND {T0_US // 10**6 - 1} AND state = 'present'",
    "candles": "SELECT count(*) FROM exchange_candles WHERE extract(epoch FROM bucket)"
    f" BETWEEN {T0_US // 10**6 - 10**8} AND {T0_US // 10**6 - 1}",
}

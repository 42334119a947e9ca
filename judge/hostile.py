"""Messages that a stranger may publish: any value that a schema's types allow, invented findings, random bytes.

Whatever is made here must be refused or harmless. A well-formed row with a likely price under an id that nobody has yet
is a forgery that no pipeline can detect, so no such row is generated: each has at least one value that no venue sends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import schemas
from pipeline.broker.topics import venue_and_product
from pipeline.core.times import DAY_US

_LONGS = (0, -1, 1, 255, 1 << 31, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))
_INTS = (0, -1, 1, 18, 19, 400, (1 << 31) - 1, -(1 << 31))
_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "1E-9999",
    "-0",
    "-1",
    "0x10",
    "1_000",
    " 1",
    "9" * 400,
    "0." + "0" * 400 + "1",
    "é\u202e\U0001f600",
    "'; DROP TABLE trades; --",
    "{}",
    "BTC-USD",
    "x" * 70_000,
)
_SAMPLES: dict[str, Sequence[Any]] = {"long": _LONGS, "int": _INTS, "string": _TEXTS, "boolean": (True, False)}
_REASONS = ("venue_has_none", "too_old", "rejected", "unreachable", "not_listening", "because", "\x00")
# Recorded hours of the instrument that the judge loads: a finding that one of them is empty is the most credible.
_LOADED_HOURS_US = 1_549_238_400_000_000  # 2019-02-04
SCHEMA_OF = {"trades": "trades", "tickers": "ticker", "quotes": "quotes"}


@dataclass(frozen=True)
class Message:
    """`schema`: the one that its publisher claims."""

    schema: str
    payload: bytes
    about: str


def messages(seed: int, topic: str, count: int, now_us: int, newest_id: int) -> list[Message]:
    """`count` messages for a topic like `trades/kraken.btc-usd`, whose newest trade is `newest_id`."""
    dice = random.Random(seed)
    space, local = topic.split("/")
    name = SCHEMA_OF.get(space) or {"heads": "head", "gaps": "gap"}[local]
    return [_message(dice, name, topic, now_us, newest_id) for _ in range(count)]


def _message(dice: random.Random, name: str, topic: str, now_us: int, newest_id: int) -> Message:
    way = dice.choice(("bytes", "cut", "any", "any", "addressed", "addressed", "addressed"))
    if way == "bytes":
        return Message(name, dice.randbytes(dice.choice((0, 1, 12, 2_000, 1_000_000))), "random bytes")
    record = any_value(dice, schemas.definition(name))
    if way == "addressed":
        if "." in topic:
            record["venue"], record["product_id"] = venue_and_product(topic)
        record["asset_class"] = dice.choice(("crypto", "crypto", "\x00", "x" * 70_000))
        record |= _aimed(dice, name, now_us, newest_id)
    payload = schemas.encode(name, {key: value for key, value in record.items() if key in _fields(name)})
    if way == "cut":
        return Message(name, payload[: len(payload) // 2], "half a record")
    return Message(name, payload, "a record")


def _fields(name: str) -> set[str]:
    return {field["name"] for field in schemas.definition(name)["fields"]}


def _aimed(dice: random.Random, name: str, now_us: int, newest_id: int) -> dict[str, Any]:
    """Return fields that are as credible as possible."""
    if name == "trades":
        return {  # live: what comes from REST may have any time
            "origin": "live",
            "trades": [_bad_trade(dice, now_us, newest_id) for _ in range(dice.choice((0, 1, 3)))],
            "holes": [_finding(dice, now_us, newest_id) for _ in range(dice.choice((0, 1, 3)))],
        }
    if name == "quotes":
        hour_us = _LOADED_HOURS_US + dice.randrange(24) * 3_600_000_000
        empty: dict[str, Any] = {key: [] for key in ("offset_ms", "bid", "ask", "bid_size", "ask_size")}
        wrong = dice.choice(({"checksum": 7, "count": 1}, {"count": 5, "checksum": 0}, {"count": -1, "checksum": 0}))
        found = dice.choice(({"status": "empty"}, {"status": "absent"}, {"status": "ticks", **wrong}))
        return empty | {
            "hour_start_us": hour_us,
            "count": 0,
            "checksum": 0,
            "final": True,
            "price_scale": 5,
            "size_scale": 0,
            "feed": dice.choice(("bi5", "json", "folder", "calendar")),
            "fetched_at_us": now_us,
            "received_at_us": now_us,
            **found,
        }
    return {}


def _bad_trade(dice: random.Random, now_us: int, newest_id: int) -> dict[str, Any]:
    """Return a trade that looks like the venue's except for one field."""
    row = {
        "trade_id": newest_id + dice.randint(-500, 50),
        "timestamp_us": now_us,
        "price": "1",
        "quantity": "1",
        "taker_side": "buy",
    }
    return row | dice.choice(
        (
            {"trade_id": dice.choice((-1, 1 << 62, (1 << 63) - 1, -(1 << 63)))},
            {"timestamp_us": dice.choice((0, -1, now_us + 40 * DAY_US, (1 << 63) - 1, -(1 << 63)))},
            {"price": dice.choice(("NaN", "-1", "0", "1e400", "", "\x00", "Infinity", "9" * 400))},
            {"quantity": dice.choice(("NaN", "-1", "1e400", "", "\x00", "-Infinity"))},
        )
    )


def _finding(dice: random.Random, now_us: int, newest_id: int) -> dict[str, Any]:
    """Return a finding that the venue has none of some ids, most of which it has or will have."""
    first = newest_id + dice.randint(-800, 2_000)
    spans: Sequence[tuple[int, int]] = (
        (first, first),
        (first, first + dice.randint(1, 500)),
        (first, first - 1),
        (0, 1 << 61),
        (first, (1 << 63) - 1),
        (-5, first),
        (-(1 << 63), (1 << 63) - 1),
    )
    span = dice.choice(spans)
    confirmed_us = dice.choice((now_us, 0, now_us - 40 * DAY_US, now_us + 40 * DAY_US, (1 << 63) - 1))
    return {"first_id": span[0], "last_id": span[1], "reason": dice.choice(_REASONS), "confirmed_at_us": confirmed_us}


def any_value(dice: random.Random, schema: Any) -> Any:
    """Return a value of this Avro type, preferably an edge case."""
    if isinstance(schema, list):
        return any_value(dice, dice.choice(schema))
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {field["name"]: any_value(dice, field["type"]) for field in schema["fields"]}
    if kind == "array":
        return [any_value(dice, schema["items"]) for _ in range(dice.choice((0, 1, 2, 300)))]
    if kind == "enum":
        return dice.choice(schema["symbols"])
    if isinstance(kind, (dict, list)):
        return any_value(dice, kind)
    if kind in _SAMPLES:
        return dice.choice(_SAMPLES[kind])
    return None if kind == "null" else dice.randbytes(20)

"""Candles of three exchanges as messages, and what the consensus of them is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from tests.messages import T0_US, received

MINUTE_US = 60_000_000

VENUES = ("binance", "coinbase", "kraken")

Store = Callable[..., tuple[int, list[Any]]]


def candle(number: int = 0, close: str = "100", volume: str = "1", final: bool = True, **prices: str) -> dict[str, Any]:
    """The `number`-th minute; flat at `close` unless told otherwise."""
    values = dict.fromkeys(("open", "high", "low"), close) | prices
    return {"bucket_us": T0_US + number * MINUTE_US, "close": close, "volume": volume, "final": final, **values}


def record(venue: str, candles: list[dict[str, Any]], required: int | None = 3, **fields: Any) -> dict[str, Any]:
    made = {
        "venue": venue,
        "product_id": "BTC-USD",
        "asset_class": "crypto",
        "origin": "history",
        "received_at_us": T0_US,
        "as_of_us": T0_US + 86_400_000_000,
        "granularity_s": 60,
        "candles": candles,
    }
    if required:
        made["quorum"] = {"exchanges": list(VENUES), "required": required, "as_of_us": T0_US}
    return made | fields


def message(content: dict[str, Any]) -> Any:
    local = f"{content['venue']}.{content['product_id'].lower()}"
    return received("candles", content, f"persistent://t/candles/{local}")


def consensus(conn: psycopg.Connection[Any], columns: str, frame: str = "1m") -> list[Any]:
    return conn.execute(f"SELECT {columns} FROM consensus_candles_{frame} ORDER BY bucket").fetchall()  # type: ignore[call-overload]

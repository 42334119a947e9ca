"""A client of the simulated Kraken's WebSocket."""

from __future__ import annotations

from typing import Any

from tests.simulator_client import Client

PAIRS = ["BTC/USD", "ETH/USD"]


async def subscribe(client: Client, channel: str = "trade", pairs: list[str] = PAIRS, **params: Any) -> None:
    await client.send(method="subscribe", params={"channel": channel, "symbol": pairs, **params})


def is_trade(frame: Any) -> bool:
    return bool(frame.get("channel") == "trade" and frame["type"] == "update")


async def collect(client: Client, pair: str, until_id: int) -> list[dict[str, Any]]:
    """All trades of a pair, in the order they came, until an id has passed."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["trade_id"] < until_id:
        frame = await client.receive()
        if frame.get("channel") == "trade":
            found += [trade for trade in frame["data"] if trade["symbol"] == pair]
    return found

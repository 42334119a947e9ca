"""A plain WebSocket client for the simulator's own tests, which knows nothing of the pipeline."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

RECORDINGS = Path(__file__).parents[1] / "simulator" / "recordings"
# Products with so many trades a second that a test waits for nothing.
BUSY = {
    "kraken": [{"symbol": "BTC/USD", "rate": 300.0}, {"symbol": "ETH/USD", "rate": 120.0}],
    "coinbase": [{"symbol": "BTC-USD", "rate": 200.0}, {"symbol": "ETH-USD", "rate": 80.0}],
}


class Client:
    """Receives frames as text and as JSON with exact numbers."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []

    async def send(self, **message: Any) -> None:
        await self.socket.send_json(message)

    async def receive(self) -> Any:
        """The next frame; None when the connection has ended or the frame is no JSON."""
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(str(message.type))
        self.texts.append(message.data)
        return json.loads(message.data, parse_float=Decimal)

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The first frame for which `wanted` holds."""
        while True:
            frame = await self.receive()
            if wanted(frame):
                return frame


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=1 << 24) as socket:
        yield Client(socket)


async def get(url: str) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of one answer."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), dict(response.headers)


def shape(value: Any) -> Any:
    """Field names in their order and types of a JSON value; a list by its first element."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return "number" if isinstance(value, Decimal | float) else type(value).__name__


def recorded(name: str) -> list[Any]:
    """The frames of a recorded session that the venue sent."""
    frames = []
    for line in (RECORDINGS / name).read_text().splitlines():
        content = json.loads(line, parse_float=Decimal)
        if "t" not in content:
            frames.append(content)
        elif content["t"] == "recv":
            frames.append(json.loads(content["data"], parse_float=Decimal))
    return frames

"""A client of the dashboard's events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.dashboard_help import Client
from tests.stream_help import PATIENCE_S

KRAKEN = {"venue": "kraken", "product": "BTC-USD"}


def path(**query: str) -> str:
    return "/api/events?" + urlencode(KRAKEN | query)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Events as a browser's EventSource gives them."""
    found: dict[str, Any] = {}
    while line := (await asyncio.wait_for(response.content.readline(), PATIENCE_S)).decode().rstrip("\n"):
        found = dict([line.split(": ", 1)]) if line.startswith("id: ") else found | dict([line.split(": ", 1)])
        if line.startswith("data: "):
            assert await response.content.readline() == b"\n"
            yield {**found, "data": json.loads(found["data"])}
            found = {}
        elif line.startswith(":"):
            assert await response.content.readline() == b"\n"
            found = {}


async def ids(response: aiohttp.ClientResponse, count: int) -> tuple[list[int], str]:
    """Trade ids of the next events, and the last position."""
    found: list[int] = []
    last = ""
    async for event in events(response):
        found.append(event["data"]["trade_id"])
        last = event["id"]
        if len(found) == count:
            break
    return found, last


async def opened(client: Client, where: str, **headers: str) -> aiohttp.ClientResponse:
    """Connected, and told of what comes from now on."""
    response = await client.get(where, headers=headers)
    assert response.status == 200, await response.text()
    assert await response.content.readline() == b": welcome\n"
    assert await response.content.readline() == b"\n"
    return response

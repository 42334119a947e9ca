"""What a client of the events hears of the past: what it asked for, all of it; nothing else; and every correction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pipeline.core.runtime import now_us
from pipeline.core.times import us_to_iso
from tests.dashboard_help import Client, asked, save
from tests.events_help import events, ids, opened, path
from tests.messages import T0_US, trade
from tests.stream_help import PATIENCE_S, Venue


def test_every_candle_that_a_repair_changed_comes_again(venue: Venue, database_url: str) -> None:
    """Prevents a client whose closed candle stays wrong, because a repair changed two of them at once."""

    async def play(client: Client) -> list[Any]:
        response = await opened(client, path(kinds="candles_1m"))
        now = now_us()
        await asyncio.to_thread(venue.trades, [trade(9, at_us=now)])
        told = events(response)
        first = await anext(told)
        late = [trade(n, at_us=T0_US + n * 60_000_000, price="7") for n in (2, 3, 4)]
        await asyncio.to_thread(save, database_url, late)
        await asyncio.to_thread(venue.trades, late, origin="repair")
        found = [one["data"] async for one in first_closed(told, 3)]
        back = await opened(client, path(kinds="candles_1m", after=first["id"]))  # it had none of them
        again = [one["data"] async for one in first_closed(events(back), 3)]
        return [found, again]

    async def first_closed(told: AsyncIterator[dict[str, Any]], count: int) -> AsyncIterator[dict[str, Any]]:
        while count:
            one = await asyncio.wait_for(anext(told), PATIENCE_S)
            if one["data"]["closed"] and one["data"]["low"] == "7":
                yield one
                count -= 1

    found, again = asked(play)
    starts = [us_to_iso(T0_US + minute * 60_000_000) for minute in (2, 3, 4)]
    assert [one["start"] for one in found] == starts
    assert [one["start"] for one in again] == starts


def left_behind(venue: Venue, end: int) -> str:
    """Return a position behind trade 2, after which the topic goes on up to trade `end`, exclusive."""

    async def position(client: Client) -> str:
        response = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(2)])
        return (await ids(response, 1))[1]

    kept: str = asked(position)
    for start in range(3, end, 100):
        venue.send([trade(n) for n in range(start, start + 100)])
    venue.flush()
    return kept


def test_a_client_without_a_position_hears_nothing_old(venue: Venue) -> None:
    """Prevents days of old trades, given as what comes from now on, because somebody else reads them at the moment."""
    kept = left_behind(venue, 4_003)

    async def play(client: Client) -> list[list[int]]:
        back = await opened(client, path(after=kept))
        new = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(9_000)])
        return [(await ids(new, 1))[0], (await ids(back, 4_001))[0]]

    new, back = asked(play)
    assert new == [9_000]
    assert back == [*range(3, 4_003), 9_000]


def test_who_comes_back_from_long_ago_gets_everything_in_one_go(venue: Venue) -> None:
    """Prevents a client from being called too slow since the topic is read faster than anybody could take it."""
    kept = left_behind(venue, 20_003)

    async def play(client: Client) -> list[int]:
        return (await ids(await opened(client, path(after=kept)), 20_000))[0]

    assert asked(play) == list(range(3, 20_003))

"""One client of the event stream: what it has received and what comes next, independent of the transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from dashboard.events.hub import Hub, Hubs, Kept
from pipeline.core.errors import Unavailable
from pipeline.stream.position import Places, SeenIds, text_of_places

# A client that reads nothing for this long is disconnected.
TAKEN_WITHIN_S = 10.0
ALIVE_S = 10.0
# Events in one piece: other clients have their turn in between.
AT_ONCE = 100


class Client:
    """An asynchronous context; `pieces` are lists of (kind, position, body), empty ones when nothing came."""

    def __init__(self, hubs: Hubs, venue: str, product_id: str, kinds: Sequence[str], places: Places) -> None:
        """Raises `Unavailable` where there are too many streams."""
        self._hubs, self._wake = hubs, asyncio.Event()
        self._came, self._places = places, dict(places)
        trades = places.get("trades")
        self._seen = SeenIds(list(trades.ids) if trades else [])
        self._cursors: dict[Hub, int] = {}
        try:
            for kind in dict.fromkeys(kinds):
                hub, cursor = hubs.join(venue, product_id, kind, places.get(kind))
                hub.wakes.add(self._wake)
                self._cursors[hub] = cursor
        except Unavailable:
            self.close()
            raise
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for hub in self._cursors:
            self._hubs.leave(hub, self._wake)

    async def pieces(self) -> AsyncIterator[list[tuple[str, str, bytes]]]:
        """Until the client is too slow or the stream fails: raises `Unavailable` with the reason."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), ALIVE_S)
            except TimeoutError:
                yield []
                continue
            self._wake.clear()
            made = []
            for hub, cursor in self._cursors.items():
                found = hub.since(cursor, AT_ONCE)
                if found:
                    self._cursors[hub] = found[-1].number
                    hub.taken(found[-1].number)
                    self._wake.set()  # there may be more
                elif hub.error is not None:
                    raise Unavailable(hub.error)
                made += [(hub.kind, self._position(hub.kind, one), one.body) for one in found if self._new(hub, one)]
            if made:
                yield made

    def _new(self, hub: Hub, one: Kept) -> bool:
        """Whether the client is to have it, and has not had it from another hub before it came back."""
        came, candle = self._came.get(hub.kind), hub.kind not in ("trades", "gaps")
        if came is None and one.old and not candle:
            return False
        if one.trade_id is not None:
            return self._seen.add(one.trade_id)
        if came is None or came.message is None or one.place.message is None or one.place.message > came.message:
            return True
        # Only a candle closed by time was had for sure: of several that a repair changes, all but the last have the
        # position from before it.
        return candle and not (one.closed_us is not None and one.closed_us == one.place.closed_us <= came.closed_us)

    def _position(self, kind: str, one: Kept) -> str:
        ids = tuple(self._seen.ranges) if kind == "trades" else ()
        self._places[kind] = one.place.replace(ids=ids)
        return text_of_places(self._places)

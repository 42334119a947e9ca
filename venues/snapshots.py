"""Snapshots of the newest trades by REST, for venues that send none when a subscription begins."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped
from schemas.records import TradeRow
from venues.events import Acknowledged, TradeFrame, VenueEvent


class Snapshots:
    """Fetches the newest trades of `products` by `newest(product)` when their subscription to `channel` is accepted.

    Fetches in threads of its own, so that reading the socket never waits for REST.
    """

    def __init__(
        self, venue: str, channel: str, products: Collection[str], newest: Callable[[str], list[TradeRow]]
    ) -> None:
        self._venue, self._channel, self._products, self._newest = venue, channel, products, newest
        self._fetched: queue.SimpleQueue[TradeFrame] = queue.SimpleQueue()

    def with_fetched(self, given: Sequence[VenueEvent]) -> list[VenueEvent]:
        """Start to fetch for the subscriptions that `given` acknowledges. Returns what was fetched since the last call,
        followed by `given`."""
        accepted = [
            one.product_id
            for one in given
            if isinstance(one, Acknowledged) and one.channel == self._channel and one.product_id in self._products
        ]
        if accepted:
            name = f"{self._venue}-newest"
            threading.Thread(target=self._fetch, args=(accepted,), name=name, daemon=True).start()
        return [*self._drain(), *given]

    def _drain(self) -> Iterator[TradeFrame]:
        while not self._fetched.empty():
            yield self._fetched.get()

    def _fetch(self, products: Iterable[str]) -> None:
        for product in products:
            try:
                rows = self._newest(product)
            except PipelineError as error:  # what it would have brought shows as missing in the ledger and is repaired
                get_logger().warning(events.REQUEST_FAILED, venue=self._venue, product=product, error=str(error))
            except Stopped:
                return
            else:
                if rows:
                    self._fetched.put(TradeFrame(product, rows, snapshot=True))

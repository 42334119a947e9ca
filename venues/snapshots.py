"""The newest trades by REST, for venues that send none when a subscription begins."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped
from schemas.records import TradeRow
from venues.events import TradeFrame


class Snapshots:
    """Fetches by `newest(product)` in threads of its own: the reader of the socket does not wait for REST."""

    def __init__(self, venue: str, newest: Callable[[str], list[TradeRow]]) -> None:
        self._venue, self._newest = venue, newest
        self._fetched: queue.SimpleQueue[TradeFrame] = queue.SimpleQueue()

    def fetch(self, products: Iterable[str]) -> None:
        """Begin to fetch those of these products, one after the other."""
        threading.Thread(target=self._fetch, args=(products,), name=f"{self._venue}-newest", daemon=True).start()

    def take(self) -> Iterator[TradeFrame]:
        """What has been fetched since the last call."""
        while not self._fetched.empty():
            yield self._fetched.get()

    def _fetch(self, products: Iterable[str]) -> None:
        for product in products:
            try:
                rows = self._newest(product)
            except PipelineError as error:  # what it would have brought is missing in the ledger, and repaired
                get_logger().warning(events.REQUEST_FAILED, venue=self._venue, product=product, error=str(error))
            except Stopped:
                return
            else:
                if rows:
                    self._fetched.put(TradeFrame(product, rows, snapshot=True))

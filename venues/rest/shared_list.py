"""A venue's list of markets, requested rarely and cached in a file shared by all processes of the machine."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped
from venues.rest.in_background import PATIENCE_S, InBackground

MOST_ENTRIES = 20_000
MAX_BYTES = 10_000_000  # of the file
# Minimum time between two requests for the list, also for a product that is not in it or a request that failed.
AGAIN_S = 600.0

Entry = TypeVar("Entry", bound=tuple[str, ...])


class SharedList(Generic[Entry]):
    """The entry of each product in the list. Thread-safe. Never raises: callers can do without the list.

    `ask` requests the list in parts, each product -> entry; for a product in several parts, the first one counts.
    `make` creates an entry from its texts. `request` names the list in the log.
    """

    def __init__(
        self,
        venue: str,
        request: str,
        file: Path,
        ask: Callable[[], Iterator[Mapping[str, Entry]]],
        make: Callable[..., Entry],
    ) -> None:
        self._request, self._file, self._ask, self._make = request, file, ask, make
        self._read_at = 0  # mtime of the copy that was read
        self._known: dict[str, Entry] = {}
        self._again_at = 0.0
        self._learning = threading.Lock()
        self._background = InBackground(venue, request)
        self._log = get_logger().bind(venue=venue)

    def entry(self, product_id: str) -> Entry | None:
        """Return the product's entry; None if it is not known. Makes no request."""
        if product_id not in self._known:
            self._read()
        return self._known.get(product_id)

    def learn(self, products: Iterable[str]) -> None:
        """Request the list, unless all `products` are known or it was requested within `AGAIN_S`."""
        self._read()
        with self._learning:
            if not self._due(products):
                return
            self._again_at = time.monotonic() + AGAIN_S
            found: dict[str, Entry] = {}
            try:
                for part in self._ask():
                    found = {**part, **found}
            except PipelineError as error:
                self._log.warning(events.REQUEST_FAILED, request=self._request, error=str(error))
            except Stopped:
                return
            if found:
                self._known = self._known | found
                self._write()

    def learn_soon(self, products: Iterable[str], patience_s: float = PATIENCE_S) -> None:
        """Call `learn` in a background thread and wait up to `patience_s`, so that REST cannot hold up a live
        stream."""
        wanted = tuple(products)
        self._read()
        if self._due(wanted):
            self._background.run(lambda: self.learn(wanted), patience_s)

    def _due(self, products: Iterable[str]) -> bool:
        return time.monotonic() >= self._again_at and any(product not in self._known for product in products)

    def _read(self) -> None:
        """Read the copy on disk if it has changed. A damaged one is ignored."""
        try:
            state = self._file.stat()
            if state.st_mtime_ns == self._read_at or state.st_size > MAX_BYTES:
                return
            self._read_at = state.st_mtime_ns
            rows = json.loads(self._file.read_bytes())
            self._known = self._known | {
                str(product): self._make(*(str(text) for text in texts)) for product, texts in rows.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return

    def _write(self) -> None:
        """Replace the copy atomically: other processes read it."""
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(dict(list(self._known.items())[:MOST_ENTRIES])))
            fresh.replace(self._file)
        except OSError as error:  # only a cache: without it every process requests the list itself
            self._log.warning(events.REQUEST_FAILED, request=str(self._file), error=str(error.strerror))

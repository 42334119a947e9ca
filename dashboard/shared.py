"""An answer that takes its time, for all pages together: asked for in a thread, by one at a time, kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
# Several open pages ask once.
KEPT_S = 2.0


class Shared(Generic[T]):
    """The newest result of `ask`. Used on the event loop; `ask` is called in a thread of its own."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._ask = ask
        self._asking: asyncio.Future[None] | None = None
        self.newest: tuple[float, T] | None = None
        """When it was asked for (monotonic), and what came."""

    async def renew(self, within_s: float) -> bool:
        """Ask anew unless the newest result is younger than `KEPT_S`; False where that is not done `within_s`.

        Raises what `ask` raised.
        """
        if self.newest is not None and time.monotonic() - self.newest[0] <= KEPT_S:
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._take)
        await asyncio.wait([self._asking], timeout=within_s)
        if self._asking.done():
            self._asking.result()
        return self._asking.done()

    def _take(self) -> None:
        began = time.monotonic()
        self.newest = began, self._ask()

    def close(self) -> None:
        """Waits for no thread: one may hang in what it asks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

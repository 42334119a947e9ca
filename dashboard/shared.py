"""A slow result shared by all pages: computed in a thread, once at a time, and cached briefly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
# Cache time: several open pages share a result.
KEPT_S = 2.0


class Shared(Generic[T]):
    """The newest result of `ask`. Used on the event loop; `ask` runs in its own thread."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._ask = ask
        self._asking: asyncio.Future[None] | None = None
        self.newest: tuple[float, T] | None = None
        """The newest result, and when it was requested (monotonic)."""

    async def renew(self, within_s: float) -> bool:
        """Renew the result unless it is younger than `KEPT_S`; returns False if that takes longer than `within_s`.

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
        """Close without waiting for the thread, which may hang."""
        self._thread.shutdown(wait=False, cancel_futures=True)

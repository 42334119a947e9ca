"""A pool of threads for each venue: requests to one that does not answer, or asks for a pause, hold up no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class VenuePools:
    """`workers` threads for each of the venues, named after `name`. As a context manager it waits for all work."""

    def __init__(self, venues: Iterable[str], workers: int, name: str) -> None:
        self._pools = {venue: ThreadPoolExecutor(workers, thread_name_prefix=f"{name}-{venue}") for venue in venues}

    def submit(self, venue: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` when a thread of the venue is free."""
        return self._pools[venue].submit(work, *args, **kwargs)

    def abandon(self) -> None:
        """Drop what has not begun, and wait for nothing."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> VenuePools:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.shutdown()

"""Limit of the bytes waiting for the broker, over all topics of a process."""

from __future__ import annotations

import threading

# Overhead of a pending message besides its payload: the client's entry, our callback and bookkeeping.
OVERHEAD_BYTES = 1024


class Budget:
    """A memory budget shared by the publishers of one `Bus`. With a limit per topic, 200 topics took gigabytes.
    Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used = 0
        self._lock = threading.Lock()

    def reserve(self, size: int) -> bool:
        """Reserve bytes; returns whether there was room. A message larger than the budget passes if nothing waits."""
        with self._lock:
            if self.used and self.used + size > self.most_bytes:
                return False
            self.used += size
            return True

    def release(self, size: int) -> None:
        """Give back reserved bytes."""
        with self._lock:
            self.used -= size

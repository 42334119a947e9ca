"""How many bytes may wait for the broker, over all topics of a process."""

from __future__ import annotations

import threading

# Beside its payload a message that waits holds an entry in the client, a callback of ours and their bookkeeping.
OVERHEAD_BYTES = 1024


class Budget:
    """Shared by the publishers of one `Bus`. Two hundred topics with a bound each came to some gigabytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room, which is then taken. What is larger than the budget passes when nothing waits."""
        with self._lock:
            if self.used and self.used + size > self.most_bytes:
                return False
            self.used += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self.used -= size

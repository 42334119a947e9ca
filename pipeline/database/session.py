"""A lasting connection for work that needs a session: locks, temporary tables."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.database.connection import Connection


class Session:
    """One connection, opened by `connect` when first needed and reopened after it was lost or closed.

    Thread-safe: psycopg serializes the threads that share it.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._conn: Connection | None = None

    def connection(self) -> Connection:
        """Return the open connection. Raises what `connect` raises."""
        with self._lock:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
            return self._conn

    def close(self) -> None:
        """Close the connection; the next call of `connection` opens a new one."""
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

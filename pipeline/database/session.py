"""A connection of a program's own, for work that needs one session: its locks, its temporary tables."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.database.connection import Connection


class Session:
    """One connection, made by `connect` when it is first needed and anew after it was lost or closed. Thread-safe;
    psycopg lets the threads that share it take turns."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._conn: Connection | None = None

    def connection(self) -> Connection:
        """Raises what `connect` raises."""
        with self._lock:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
            return self._conn

    def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

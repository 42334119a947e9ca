"""Read-only questions to the database without blocking the event loop: a few connections, used by threads in turns."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from pipeline.database import Connection, connect
from pipeline.errors import Unavailable, WrongUse
from pipeline.settings import DatabaseSettings

# More than a browser's page asks at once; each costs the database some 10 MB.
CONNECTIONS = 4
TIMEOUT = "20s"

Parameters = Sequence[Any] | Mapping[str, Any]


class Store:
    """`await store.rows(query, parameters)`. A lost connection is replaced at the next question."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(None)

    def probe(self) -> str | None:
        """What is wrong with the database now, from any thread; None when it answers."""
        try:
            self._ask("SELECT 1", ())
        except Unavailable as error:
            return str(error)
        return None

    async def rows(self, query: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """All rows. Raises `Unavailable` when the database does not answer."""
        return await asyncio.to_thread(self._ask, query, parameters)

    def _ask(self, query: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        connection = self._idle.get()
        try:
            if connection is None or connection.closed:
                connection = connect(self._settings, "dashboard", read_only=True)
                connection.execute(f"SET statement_timeout = '{TIMEOUT}'")
            return connection.execute(query, parameters).fetchall()
        except (psycopg.Error, WrongUse) as error:
            if connection is not None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
                connection.close()
            raise Unavailable(f"the database did not answer: {str(error).strip()}") from None
        finally:
            self._idle.put(connection)

    def close(self) -> None:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()

"""Read-only queries: a small connection pool, every query with a timeout, none on the event loop.

A page queries several times a second, and an unavailable or frozen database must not block it: after a failure, queries
are refused at once for `AWAY_S`. If a query is not answered in `ANSWER_WITHIN_S`, its socket is shut down, which ends
the waiting thread: a frozen database answers neither the query nor its cancellation. Hence threads: a cancelled
asynchronous connection waits for the answer to its cancel request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.settings import DatabaseSettings
from pipeline.database import query
from pipeline.database.connection import Connection, connect

# More than a browser's page asks at once; each costs the database some 10 MB.
CONNECTIONS = 4
# Questions that wait for a connection. Each answer can have some MB: more at once are refused.
WAITING_MOST = 32
# The slowest, days and gaps of a pair with 20,000 holes, take 1.3 s while 16 processes want the same two cores.
STATEMENT_S = 8
ANSWER_WITHIN_S = 10.0
AWAY_S = 1.0
LOOK_S = 0.2  # how soon a waiting query notices that no connection can be made
# Connection errors are reported by the query that needed the connection.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

Parameters = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")


class _Question(Generic[T]):
    """One query in its thread. `give_up` is called from another thread."""

    def __init__(self, of: Callable[..., T], text: str, parameters: Parameters) -> None:
        self._of, self._query, self._parameters = of, text, parameters
        self._lock = threading.Lock()
        self.given_up = False
        self._connection: Connection | None = None

    def ask(self, connection: Connection) -> list[T]:
        with self._lock:
            if self.given_up:
                return []
            self._connection = connection
        try:
            return query.rows(connection, self._of, self._query, self._parameters)
        finally:
            with self._lock:
                self._connection = None

    def give_up(self) -> None:
        with self._lock:
            self.given_up = True
            if self._connection is not None:
                with (
                    suppress(OSError, psycopg.Error),  # closed meanwhile
                    socket.socket(fileno=os.dup(self._connection.fileno())) as line,
                ):
                    line.shutdown(socket.SHUT_RDWR)


class Store:
    """The pool: `await store.rows(Row, query, parameters)`. A lost connection is replaced at the next query."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(CONNECTIONS, "database")
        self._away = "", 0.0  # what to say, until when (monotonic)
        self._asked = 0
        store = self

        class Ours(psycopg.Connection[Any]):
            """Makes the pool's connections like all programs', with the same options and errors."""

            @classmethod
            def connect(cls, *_: Any, **__: Any) -> Any:
                return store._connect()

        # No connections are kept while no page is open. `reconnect_timeout`: a failed attempt is repeated by the next
        # query, not by the pool.
        self._pool = cast(
            "ConnectionPool[Connection]",
            ConnectionPool(
                connection_class=Ours,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=LOOK_S,
                reconnect_timeout=0.0,
                open=True,
                name="dashboard",
            ),
        )

    def _answer(self, question: _Question[T]) -> list[T]:
        """Run the query, in a thread. Raises `Unavailable`, `PoolClosed`, `psycopg.Error`."""
        while not question.given_up:
            try:
                with self._pool.connection() as connection:
                    return question.ask(connection)
            except PoolTimeout:  # a connection is being made, which takes seconds on a busy machine
                why, until = self._away
                if time.monotonic() < until:
                    raise Unavailable(why) from None
        return []

    def _connect(self) -> Connection:
        try:
            connection = connect(self._settings, "dashboard", read_only=True)
        except (Unavailable, WrongUse) as error:
            self._away = str(error), time.monotonic() + AWAY_S
            raise
        self._away = "", 0.0
        try:
            connection.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
        except psycopg.Error:
            connection.close()
            raise
        return connection

    async def probe(self) -> str | None:
        """Return the database's current problem; None if it answers."""
        try:
            await self.rows(dict, "SELECT 1")
        except Unavailable as error:
            return str(error)
        return None

    async def rows(self, of: Callable[..., T], text: str, parameters: Parameters = ()) -> list[T]:
        """Return all rows, each as `of(**columns)`. Raises `Unavailable` if the database does not answer within
        `ANSWER_WITHIN_S`."""
        if self._pool.closed:
            raise Unavailable("the dashboard ends")
        why, until = self._away
        if time.monotonic() < until:
            raise Unavailable(why)
        if self._asked >= WAITING_MOST:
            raise Unavailable("too many concurrent queries; retry in a moment")
        self._asked += 1
        question = _Question(of, text, parameters)
        job = self._threads.submit(self._answer, question)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), ANSWER_WITHIN_S)
        except TimeoutError:
            why = f"the database did not answer within {ANSWER_WITHIN_S:.0f} s"
            self._away = why, time.monotonic() + AWAY_S
            self._pool.drain()  # if one connection is lost, probably all are: a restart closes all
            raise Unavailable(why) from None
        except PoolClosed:
            raise Unavailable("the dashboard ends") from None
        except psycopg.errors.QueryCanceled:
            raise Unavailable(f"the database did not answer within {STATEMENT_S} s") from None
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                self._pool.drain()
            raise Unavailable(f"the database did not answer: {' '.join(str(error).split())}") from None
        finally:
            self._asked -= 1
            question.give_up()

    def close(self) -> None:
        """Close without waiting for threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close(timeout=0)

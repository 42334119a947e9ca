"""Read-only questions to the database: a pool of a few connections, each question with an end, none on the event loop.

A page asks several times a second, and a database that is away or frozen must cost it nothing: whoever finds it so says
it for the next `AWAY_S`, during which questions are refused at once. A question that is not answered in
`ANSWER_WITHIN_S` has its socket shut, which ends the thread that waits for it: a frozen database answers neither the
question nor a request to cancel it. Hence threads: an asynchronous connection that is cancelled waits for the answer to
its request to cancel.
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
LOOK_S = 0.2  # how soon a question that waits for a connection sees that none can be made
# That a connection cannot be made is said by whoever asked for it.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

Parameters = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")


class _Question(Generic[T]):
    """One question in its thread. `give_up` is called from another."""

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
    """`await store.rows(Row, query, parameters)`. A lost connection is replaced at the next question."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(CONNECTIONS, "database")
        self._away = "", 0.0  # what to say, until when (monotonic)
        self._asked = 0
        store = self

        class Ours(psycopg.Connection[Any]):
            """The pool makes its connections as all programs do, with the same options and sentences."""

            @classmethod
            def connect(cls, *_: Any, **__: Any) -> Any:
                return store._connect()

        # Nobody asks while nothing is open, so there is nothing to keep at hand; `reconnect_timeout`: an attempt that
        # failed is not repeated by the pool but by the next question.
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
        """In a thread. Raises `Unavailable`, `PoolClosed`, `psycopg.Error`."""
        while not question.given_up:
            try:
                with self._pool.connection() as connection:
                    return question.ask(connection)
            except PoolTimeout:  # one is being made: on a busy machine that takes seconds
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
        """What is wrong with the database now; None when it answers."""
        try:
            await self.rows(dict, "SELECT 1")
        except Unavailable as error:
            return str(error)
        return None

    async def rows(self, of: Callable[..., T], text: str, parameters: Parameters = ()) -> list[T]:
        """All rows, each as `of(**columns)`. Raises `Unavailable` when the database does not answer within
        `ANSWER_WITHIN_S`."""
        if self._pool.closed:
            raise Unavailable("the dashboard ends")
        why, until = self._away
        if time.monotonic() < until:
            raise Unavailable(why)
        if self._asked >= WAITING_MOST:
            raise Unavailable("too many questions at once; ask again in a moment")
        self._asked += 1
        question = _Question(of, text, parameters)
        job = self._threads.submit(self._answer, question)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), ANSWER_WITHIN_S)
        except TimeoutError:
            why = f"the database did not answer within {ANSWER_WITHIN_S:.0f} s"
            self._away = why, time.monotonic() + AWAY_S
            self._pool.drain()  # where one connection is lost the others are too: a restart ends all
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
        """Waits for no thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close(timeout=0)

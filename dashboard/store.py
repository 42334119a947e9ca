"""Read-only questions to the database: a few threads and connections, an end to each question, the event loop free.

A page asks several times a second, and a database that is away or frozen must cost it nothing: whoever finds it so says
it for the next `AWAY_S`, during which questions are refused at once. A question that is not answered in
`ANSWER_WITHIN_S` has its socket shut, which ends the thread that waits for it: a frozen database answers neither the
question nor a request to cancel it. Hence threads: an asynchronous connection that is cancelled waits for the answer to
its request to cancel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg

from pipeline.database import Connection, connect
from pipeline.errors import Unavailable, WrongUse
from pipeline.settings import DatabaseSettings

# More than a browser's page asks at once; each costs the database some 10 MB.
CONNECTIONS = 4
# Questions that wait for a connection. Each answer can have some MB: more at once are refused.
WAITING_MOST = 32
# The slowest, days and gaps of a pair with 20,000 holes, take 1.3 s while 16 processes want the same two cores.
STATEMENT_S = 8
ANSWER_WITHIN_S = 10.0
AWAY_S = 1.0

Parameters = Sequence[Any] | Mapping[str, Any]
Rows = list[tuple[Any, ...]]


class _Question:
    """One question in its thread. `give_up` is called from another."""

    def __init__(self, query: str, parameters: Parameters) -> None:
        self._query, self._parameters = query, parameters
        self._lock = threading.Lock()
        self._given_up = False
        self._connection: Connection | None = None

    def ask(self, connection: Connection) -> Rows:
        with self._lock:
            if self._given_up:
                return []
            self._connection = connection
        try:
            return connection.execute(self._query, self._parameters).fetchall()
        finally:
            with self._lock:
                self._connection = None

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            if self._connection is not None:
                with (
                    suppress(OSError, psycopg.Error),  # closed meanwhile
                    socket.socket(fileno=os.dup(self._connection.fileno())) as line,
                ):
                    line.shutdown(socket.SHUT_RDWR)


class Store:
    """`await store.rows(query, parameters)`. A lost connection is replaced at the next question."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(CONNECTIONS, "database")
        self._free: list[Connection] = []
        self._away = "", 0.0  # what to say, until when (monotonic)
        self._asked = 0
        self._closed = False

    def _answer(self, question: _Question) -> Rows:
        """In a thread, hence at most `CONNECTIONS` at once. Raises `Unavailable`, `psycopg.Error`."""
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connect()
        try:
            return question.ask(connection)
        finally:
            if connection.closed or self._closed:
                connection.close()
            else:
                self._free.append(connection)

    def _connect(self) -> Connection:
        try:
            connection = connect(self._settings, "dashboard", read_only=True)
        except (Unavailable, WrongUse) as error:
            self._away = str(error), time.monotonic() + AWAY_S
            raise Unavailable(str(error)) from None
        self._away = "", 0.0
        try:
            connection.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _drain(self) -> None:
        """Where one connection is lost the others are too: a restart ends all."""
        while self._free:
            self._free.pop().close()

    async def probe(self) -> str | None:
        """What is wrong with the database now; None when it answers."""
        try:
            await self.rows("SELECT 1")
        except Unavailable as error:
            return str(error)
        return None

    async def rows(self, query: str, parameters: Parameters = ()) -> Rows:
        """All rows. Raises `Unavailable` when the database does not answer within `ANSWER_WITHIN_S`."""
        if self._closed:
            raise Unavailable("the dashboard ends")
        why, until = self._away
        if time.monotonic() < until:
            raise Unavailable(why)
        if self._asked >= WAITING_MOST:
            raise Unavailable("too many questions at once; ask again in a moment")
        self._asked += 1
        question = _Question(query, parameters)
        job = self._threads.submit(self._answer, question)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), ANSWER_WITHIN_S)
        except TimeoutError:
            why = f"the database did not answer within {ANSWER_WITHIN_S:.0f} s"
            self._away = why, time.monotonic() + AWAY_S
            self._drain()
            raise Unavailable(why) from None
        except psycopg.errors.QueryCanceled:
            raise Unavailable(f"the database did not answer within {STATEMENT_S} s") from None
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                self._drain()
            raise Unavailable(f"the database did not answer: {' '.join(str(error).split())}") from None
        finally:
            self._asked -= 1
            question.give_up()

    def close(self) -> None:
        """Waits for no thread."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._drain()

"""Read-only questions to the database: a few connections, each question with an end, none of them on the event loop.

A page asks several times a second, and a database that is away or frozen must cost it nothing: whoever finds it so says
it for the next `AWAY_S`, during which questions are refused at once; only one connection is being made at a time. A
question that is not answered in `ANSWER_WITHIN_S` has its socket shut, which ends the thread that waits for it: a
frozen database answers neither the question nor a request to cancel it.
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
CONNECT_WITHIN_S = 2.0

Parameters = Sequence[Any] | Mapping[str, Any]
Rows = list[tuple[Any, ...]]


class _Question:
    """One question in its thread. `give_up` is called from another."""

    def __init__(self, store: Store, query: str, parameters: Parameters) -> None:
        self._store, self._query, self._parameters = store, query, parameters
        self._lock = threading.Lock()
        self._given_up = False
        self._connection: Connection | None = None

    def run(self) -> Rows:
        connection = self._store.take()
        with self._lock:
            if self._given_up:
                self._store.put(connection)
                return []
            self._connection = connection
        try:
            return connection.execute(self._query, self._parameters).fetchall()
        finally:
            with self._lock:
                self._connection = None
            self._store.put(connection)

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
        self._lock, self._connecting = threading.Lock(), threading.Lock()
        self._connecting_since: float | None = None
        self._idle: list[Connection] = []
        self._away = "", 0.0  # what to say, until when (monotonic)
        self._asked = 0
        self._closed = False

    async def probe(self) -> str | None:
        """What is wrong with the database now; None when it answers."""
        try:
            await self.rows("SELECT 1")
        except Unavailable as error:
            return str(error)
        return None

    async def rows(self, query: str, parameters: Parameters = ()) -> Rows:
        """All rows. Raises `Unavailable` when the database does not answer within `ANSWER_WITHIN_S`."""
        self._refuse_while_away()
        since = self._connecting_since
        if since is not None and not self._idle and time.monotonic() - since > CONNECT_WITHIN_S:
            raise Unavailable("the database does not answer; a connection is being made")
        if self._asked >= WAITING_MOST:
            raise Unavailable("too many questions at once; ask again in a moment")
        self._asked += 1
        question = _Question(self, query, parameters)
        job = self._threads.submit(question.run)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), ANSWER_WITHIN_S)
        except TimeoutError:
            raise self._gone(f"the database did not answer within {ANSWER_WITHIN_S:.0f} s") from None
        except psycopg.errors.QueryCanceled:
            raise Unavailable(f"the database did not answer within {STATEMENT_S} s") from None
        except (psycopg.Error, WrongUse) as error:
            raise Unavailable(f"the database did not answer: {' '.join(str(error).split())}") from None
        finally:
            self._asked -= 1
            question.give_up()

    def _refuse_while_away(self) -> None:
        why, until = self._away
        if time.monotonic() < until:
            raise Unavailable(why)

    def _gone(self, why: str) -> Unavailable:
        """From now on questions are refused for a moment."""
        self._away = why, time.monotonic() + AWAY_S
        self._drop_idle()
        return Unavailable(why)

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # -- in the threads ------------------------------------------------------------------------------------------------

    def take(self) -> Connection:
        """An idle connection, or a new one. Raises `Unavailable`."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        with self._connecting:
            self._refuse_while_away()
            self._connecting_since = time.monotonic()
            try:
                connection = connect(self._settings, "dashboard", read_only=True)
                connection.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
            except (Unavailable, WrongUse, psycopg.Error) as error:
                raise self._gone(str(error)) from None
            finally:
                self._connecting_since = None
        return connection

    def put(self, connection: Connection) -> None:
        """Give back. Where one is lost the others are too: a restart ends all."""
        if connection.broken or connection.closed:
            connection.close()
            self._drop_idle()
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> bool:
        """False when a thread still hangs in a connection being made: the process must not wait for it."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._drop_idle()
        return self._connecting_since is None

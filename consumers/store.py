"""Store checked rows: one transaction per batch, retried until it succeeds or the data is the cause of the failure.

In the latter case the batch is bisected until the bad row is found, which becomes a dead letter. Whatever the error (a
constraint, a number that does not fit, a bug of ours), it neither ends the writer nor is retried forever.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

import psycopg
from psycopg import errors as pg
from tenacity import wait_exponential

from consumers.health import LaneState
from consumers.sink import DeadLetters, MessageSlice, PreparedBatch, Sink, WriteResult
from pipeline.core import events
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.retry import retry
from pipeline.core.settings import DatabaseSettings
from pipeline.core.stopping import Stopped
from pipeline.database.connection import STATEMENT_TIMEOUT_S, connect_when_ready, transient
from pipeline.database.session import Session

# Bad rows of one message that are isolated one by one; the rest of the message is then refused as a whole: isolating
# 150,000 bad rows takes 300,000 transactions.
MOST_SINGLE = 100
# A batch that exceeded the statement timeout or the database's memory this often is bisected as well: trades of
# 4,000 different weeks need as many new chunks, and locks on all of them.
MOST_TOO_MUCH = 3
# What cannot be divided is refused after this many failed transactions, each on a connection of its own: a chunk that
# somebody dropped meanwhile, or a function that was replaced, causes the same kinds of errors as a bad row.
LOOKS = 2


class Stopping(Exception):
    """The program is stopping before a batch was stored: nothing of it may be acknowledged."""


class Store:
    """Stores the batches of one namespace on its own connection. Used by one thread."""

    def __init__(
        self, name: str, settings: DatabaseSettings, sink: Sink, state: LaneState, stop: threading.Event
    ) -> None:
        self._sink = sink
        self._state = state
        self._stop = stop
        self._session = Session(lambda: connect_when_ready(settings, name, stop))
        self._halving = False

    def store(
        self, parts: Sequence[MessageSlice], prepared: PreparedBatch | None, error: Exception | None
    ) -> tuple[int, DeadLetters]:
        """Write a batch, retrying as long as needed; returns the number of new rows and the letters of refused ones.

        Raises `Stopping`.
        """
        letters = DeadLetters()
        if prepared is not None:
            try:
                stored = self._persist(prepared, parts, Counter())
            except (Stopping, WrongUse):
                raise
            except Exception as refused:
                error = refused
            else:
                letters.extend(prepared.letters)
                letters.extend(stored.letters)
                return stored.rows, letters
        get_logger().warning(
            events.BATCH_SPLIT, namespace=self._sink.namespace, messages=len(parts), error=_one_line(error)
        )
        self._halving = True
        try:
            return self._bisect(parts, _one_line(error), letters, Counter()), letters
        finally:
            self._halving = False

    def _bisect(self, parts: Sequence[MessageSlice], error: str, letters: DeadLetters, found: Counter[int]) -> int:
        """Store all rows that can be stored; returns the number of new ones. `found`: refused rows by message."""
        halves = self._halves(parts, found)
        if not halves:
            for part in parts:
                found[id(part.message)] += 1
                self._refuse(part, error, letters)
            return 0
        rows = 0
        for half in halves:
            try:
                prepared = self._sink.prepare(half)
                stored = self._persist(prepared, half, found)
            except (Stopping, WrongUse):
                raise
            except Exception as again:
                rows += self._bisect(half, _one_line(again), letters, found)
            else:
                rows += stored.rows
                letters.extend(prepared.letters)
                letters.extend(stored.letters)
        return rows

    def _halves(self, parts: Sequence[MessageSlice], found: Counter[int]) -> list[Sequence[MessageSlice]]:
        """Return two halves; an empty list if `parts` cannot be divided further."""
        if not self._can_halve(parts, found):
            return []
        if len(parts) > 1:
            return [parts[: len(parts) // 2], parts[len(parts) // 2 :]]
        (part,) = parts
        middle = (part.first + part.end) // 2
        return [
            [MessageSlice(part.message, part.record, part.first, middle)],
            [MessageSlice(part.message, part.record, middle, part.end)],
        ]

    def _can_halve(self, parts: Sequence[MessageSlice], found: Counter[int]) -> bool:
        if len(parts) != 1:
            return bool(parts)
        (part,) = parts
        return self._sink.divisible and part.end - part.first > 1 and found[id(part.message)] < MOST_SINGLE

    def _refuse(self, part: MessageSlice, error: str, letters: DeadLetters) -> None:
        try:
            prepared = self._sink.prepare([part])
            prepared.refuse("database", error)
            letters.extend(prepared.letters)
        except Exception as why:  # not even that works: refuse the message as a whole
            letters.add(part.message, "writer", f"{_one_line(why)}; {error}", part.first or None)

    def _persist(self, prepared: PreparedBatch, parts: Sequence[MessageSlice], found: Counter[int]) -> WriteResult:
        """Run one transaction, retrying transient errors. Raises `Stopping`, and errors caused by the data.

        What cannot be divided is refused if this raises. So it never raises then for what others cause: a statement
        that somebody cancelled, a server without memory.
        """
        failed = too_much = 0
        began = 0.0

        def attempt() -> WriteResult:
            nonlocal began
            began = time.monotonic()
            stored = prepared.store(self._session.connection())
            self._state.database(None)
            return stored

        def should_retry(error: BaseException) -> bool:
            nonlocal failed, too_much
            if not isinstance(error, psycopg.Error):
                return isinstance(error, Unavailable)  # no connection, or a different database than before
            alone = not self._can_halve(parts, found)
            if not transient(error):
                failed += 1
                return alone and failed < LOOKS
            timed_out = isinstance(error, pg.QueryCanceled) and time.monotonic() - began >= STATEMENT_TIMEOUT_S
            if not timed_out and (alone or not isinstance(error, pg.OutOfMemory)):
                return True
            too_much += 1
            return too_much < (1 if self._halving and not alone else MOST_TOO_MUCH)

        if self._stop.is_set():
            raise Stopping
        try:
            wait = wait_exponential(multiplier=0.1, max=10)
            return retry(attempt, self._stop, retry_on=should_retry, wait=wait, before_wait=self._on_transient)
        except Stopped:
            raise Stopping from None
        except psycopg.Error:
            self._state.database(None)  # the database answers; what it refuses becomes a letter
            raise

    def _on_transient(self, error: BaseException, retry_in_s: float) -> None:
        text = " ".join(str(error).split())[:500]
        self._state.database(text)
        get_logger().warning(events.DATABASE_RETRY, error=text, kind=type(error).__name__, retry_in_s=retry_in_s)
        self.close()  # in an unknown state: reconnect

    def close(self) -> None:
        self._session.close()


def _one_line(error: Exception | None) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]

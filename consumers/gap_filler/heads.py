"""Heads: the newest trade of each product, tracked independently of the trades and stored in `trade_heads`.

Two witnesses: the live producers publish on `control/heads` what their streams have shown, and REST is asked for the
newest trade of each product whose stream has shown nothing new for a while. A trade below a head that does not arrive
is reported missing within a minute, wherever it was lost between socket and table. If neither witness can confirm that
there is nothing newer, the product is not known to be complete, and the view `completeness` says so.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

import pulsar

import schemas
from consumers.gap_filler.pools import VenuePools
from consumers.gap_filler.product_head import NEVER, ProductHead
from pipeline.broker.client import Bus
from pipeline.broker.topics import HEADS_TOPIC, full_name
from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Refused
from pipeline.core.log import get_logger
from pipeline.core.log_limiter import LogLimiter
from pipeline.core.products import ID_JUMP, MAX_ID
from pipeline.core.runtime import now_us
from pipeline.core.stopping import Stopped
from pipeline.database.ledger import Head, Ledger
from venues.registry import proof_of
from venues.trade_walk import Source

Key = tuple[str, str]  # venue, product
MOST_OFFSET_US = 86_400_000_000  # a clock offset in a message beyond a day is not a measurement
# A product whose stream is quiet is asked for this often ...
ASK_EVERY_S = 15.0
# ... but less often for many quiet products of a venue: this share of its REST rate is for heads.
SHARE_OF_CALLS = 0.25
WRITE_EVERY_S = 2.0
# A head whose producer's stream has shown nothing for this long only proves that there is such an id.
OLDEST_S = 86_400.0
# A product that is not configured and that no producer has reported for this long is no longer live.
RETIRE_AFTER_S = 3600.0
ASKERS = 4
# If the database's clock gets ahead of ours by more than this, the machine was suspended or a clock was set.
MOST_AHEAD_S = 5.0
# Most products known only from messages, not confirmed by REST.
MOST_UNCONFIRMED = 100
MOST_BYTES = 4_096  # of a message, which has some 60


def seconds() -> float:
    """Return the seconds since the machine started, including those in which it was suspended.

    A monotonic clock leaves those out: what was proven before a suspension would seem to be proven now.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heads:
    """The heads of all products. Used by the gap filler's loop only; not thread-safe.

    `configured`: products named in the settings; others are live as long as a producer reports them.
    """

    def __init__(self, sources: Iterable[Source], bus: Bus, configured: Iterable[Key], stop: threading.Event) -> None:
        self._sources = {source.venue: source for source in sources}
        self._bus, self._configured, self._stop = bus, frozenset(configured), stop
        self._log = get_logger()
        self._log_limiter = LogLimiter()
        self._known: dict[Key, ProductHead] = {}
        self._reports: deque[tuple[dict[str, object], float, float]] = deque(maxlen=10_000)
        self._asking: dict[Key, Future[tuple[int, float]]] = {}
        self._pools = VenuePools(self._sources, ASKERS, "heads")
        self._reader: pulsar.Reader | None = None
        self._open_reader_at = self._started = seconds()
        self._written = -WRITE_EVERY_S
        self._ahead_s = float("inf")  # the database's clock minus ours

    def poll(self, ledger: Ledger) -> None:
        """Process the witnesses' reports, ask REST where due, and store the heads. Raises what the database raises."""
        now = seconds()
        self._open_reader(now)
        if now - self._written >= WRITE_EVERY_S:
            for key, (first, newest, settled) in ledger.live_products().items():
                if key not in self._known and key[0] in self._sources:
                    self._known[key] = ProductHead(first, newest, now, "rest", settled_id=settled)
        while self._reports:
            self._apply_report(*self._reports.popleft())
        self._collect_answers(now)
        self._start_requests(now)
        if now - self._written >= WRITE_EVERY_S:
            self._written = now
            self._write(ledger)

    def ages(self) -> dict[Key, float]:
        """Return, per live product, the seconds since the newest trade was last confirmed."""
        now = seconds()
        real = {key: head for key, head in self._known.items() if head.real}
        return {key: float("inf") if head.proven is None else now - head.proven for key, head in real.items()}

    def newest(self, key: Key) -> int | None:
        """Return the newest confirmed id; None if unknown."""
        head = self._known.get(key)
        return head.newest_id if head and head.checked is not None else None

    def close(self) -> None:
        self._pools.abandon()

    # -- witnesses ----------------------------------------------------------------------------------------------------

    def _open_reader(self, now: float) -> None:
        """Open the reader of `control/heads` if needed; failures are retried forever, and REST works without it."""
        if self._reader is not None and self._reader.is_connected():
            return
        if now < self._open_reader_at:
            return
        self._open_reader_at = now + 10.0
        with suppress(pulsar.PulsarException):
            if self._reader is not None:
                self._reader.close()
        try:
            self._reader = self._bus.client.create_reader(
                full_name(self._bus.settings.tenant, "control", HEADS_TOPIC),
                pulsar.MessageId.latest,
                reader_listener=lambda _, message: self._on_message(message.data()),
            )
        except pulsar.PulsarException as error:
            self._reader = None
            self._log.warning(events.BROKER_RETRY, on="control/heads", error=str(error))

    def _on_message(self, data: bytes) -> None:
        """Queue a message for `poll`. Runs in the client's thread, so it must be quick. Never raises."""
        try:
            if len(data) > MOST_BYTES:
                raise BadData("size", f"{len(data)} bytes")
            record, now = schemas.decode("head", data), seconds()
            # A report that was delayed on its way, or by us, is as old as its producer's clock says: a late one proves
            # nothing about now.
            age_s = max(0.0, (now_us() - int(record["at_us"])) / 1e6)
            self._reports.append((record, now, now - age_s if age_s < OLDEST_S else NEVER))
        except Exception as error:  # whatever a decoder raises on bytes that are not Avro
            if self._log_limiter.allows("unreadable"):
                self._log.warning(events.PARSE_ERROR, reason="head", detail=f"{type(error).__name__}: {error}"[:200])

    def _apply_report(self, record: dict[str, object], now: float, at: float) -> None:
        """Apply a producer's report. Anyone may have sent it, so implausible values are ignored."""
        key = (str(record["venue"]), str(record["product_id"]))
        newest, first = record["newest_id"], record["from_id"]
        if key[0] not in self._sources or not isinstance(newest, int) or not isinstance(first, int):
            return
        if not 0 <= first <= newest < MAX_ID:
            return
        if key not in self._known:
            unconfirmed = sum(not head.real for head in self._known.values())
            if key not in self._configured and unconfirmed >= MOST_UNCONFIRMED:
                return
            real, kind = key in self._configured, str(record["asset_class"])
            first = max(first, newest - ID_JUMP)  # a message alone must not make millions of ids missing
            self._known[key] = ProductHead(first, first - 1, now, "stream", asset_class=kind, real=real)
        self._known[key].stream_began(first, newest)
        self._known[key].report(newest, "stream", now, at)
        if isinstance(offset_us := record.get("clock_offset_us"), int) and abs(offset_us) <= MOST_OFFSET_US:
            self._known[key].clock_offset_ms = round(offset_us / 1000)

    def _start_requests(self, now: float) -> None:
        quiet: dict[str, int] = {}
        for venue, _ in self._known:
            quiet[venue] = quiet.get(venue, 0) + 1
        for key, head in self._known.items():
            source = self._sources.get(key[0])
            if source is None or key in self._asking:
                continue
            every_s = max(ASK_EVERY_S, quiet[key[0]] / (SHARE_OF_CALLS * source.calls_per_s))
            if head.due(now, every_s):
                head.asked_at = now
                self._asking[key] = self._pools.submit(key[0], _asked, source, key[1])

    def _collect_answers(self, now: float) -> None:
        for key, answer in [(key, answer) for key, answer in self._asking.items() if answer.done()]:
            del self._asking[key]
            try:
                newest_id, at = answer.result()
                self._known[key].report(newest_id, "rest", now, at, self._lag_s(key[0], now))
                self._known[key].real = True
            except Refused as error:
                self._log.warning(events.REQUEST_FAILED, venue=key[0], product=key[1], error=str(error))
                if not self._known[key].real:
                    del self._known[key]
            except (PipelineError, Stopped) as error:
                if not self._stop.is_set():
                    self._log.warning(events.REQUEST_FAILED, venue=key[0], product=key[1], error=str(error))

    def _lag_s(self, venue: str, now: float) -> float:
        """Return how far behind a venue's REST is, by at least two products: a single one counts only for itself."""
        lags = sorted(head.lag_s(now) for (of, _), head in self._known.items() if of == venue)
        return lags[-2] if len(lags) > 1 else 0.0

    # -- ledger -------------------------------------------------------------------------------------------------------

    def _write(self, ledger: Ledger) -> None:
        database_s = ledger.seconds()
        now = seconds()  # the ledger may have waited for a lock since the poll began
        ahead_s = database_s - now
        if ahead_s - self._ahead_s > MOST_AHEAD_S:
            for head in self._known.values():
                head.forget()
        self._ahead_s = ahead_s
        for key, head in list(self._known.items()):
            idle_s = now - (head.reported_at or self._started)
            if key not in self._configured and idle_s > RETIRE_AFTER_S:
                self._log.info(events.PRODUCT_RETIRED, venue=key[0], product=key[1])
                ledger.retire(*key)
                del self._known[key]
                continue
            head.settle(now)
        made = [
            Head(
                venue,
                product,
                head.asset_class,
                head.from_id,
                head.newest_id,
                max(head.settled_id, head.from_id - 1),
                now - head.seen,
                now - head.proven,
                head.witness,
                proof_of(venue),
                head.take_clock_offset(),
            )
            for (venue, product), head in self._known.items()
            if head.proven is not None and head.real
        ]
        ledger.write_heads(made, database_s)


def _asked(source: Source, product_id: str) -> tuple[int, float]:
    """Return the newest id by REST, and when it was requested: the answer proves nothing about later times."""
    at = seconds()
    return source.newest_trade(product_id), at

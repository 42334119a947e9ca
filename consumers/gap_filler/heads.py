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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import pulsar

import schemas
from pipeline.broker.client import Bus
from pipeline.broker.topics import HEADS_TOPIC, full_name
from pipeline.core import events
from pipeline.core.errors import PipelineError, Refused
from pipeline.core.log import get_logger
from pipeline.core.products import ID_JUMP, MAX_ID
from pipeline.core.stopping import Stopped
from pipeline.database.ledger import Head, Ledger
from venues.registry import proof_of
from venues.trade_walk import Source

Key = tuple[str, str]  # venue, product
# A trade is stored some 20 ms after its frame; one seen longer ago than this should be stored.
MOST_OFFSET_US = 86_400_000_000  # what a message says of clocks beyond a day is no measurement
SETTLE_S = 10.0
# REST is asked if the stream has shown nothing new for QUIET_S, then every ASK_EVERY_S ...
QUIET_S = 10.0
ASK_EVERY_S = 15.0
# ... but less often for many quiet products of a venue: this share of its REST rate is for heads.
SHARE_OF_CALLS = 0.25
# REST is also asked while the stream moves: an id that nobody has confirmed for ten minutes, while REST gave lower
# ones, is an error.
ASK_ANYWAY_S = 120.0
REFUTED_AFTER_S, REFUTED_BY = 600.0, 3
WRITE_EVERY_S = 2.0
# A product that is not configured and that no producer has reported for this long is no longer live.
RETIRE_AFTER_S = 3600.0
ASKERS = 4
# Limit of products known only from messages, until REST has confirmed them.
MOST_STRANGERS = 100


@dataclass
class ProductHead:
    """The head of one product. Times are monotonic seconds; `None`: never."""

    from_id: int
    newest_id: int
    seen: float
    witness: str
    checked: float | None = None  # when a witness last confirmed `newest_id` as the newest
    settled_id: int = -1
    proven: float | None = None  # the time at which `settled_id` is known to have been the newest
    asset_class: str = "crypto"
    stream_at: float | None = None  # when the stream last showed a new trade
    asked_at: float | None = None
    clock_offset_ms: int | None = None  # measured since it was last written
    real: bool = True  # False: known only from a message; not believed until REST confirms it
    _young: deque[tuple[float, int]] = field(default_factory=deque)
    _doubted: int | None = None  # the last answer of REST that was far above all others
    _below: int = 0  # answers of REST below `newest_id` since it was last confirmed

    def told(self, newest_id: int, witness: str, now: float) -> None:
        """Record a witness's newest id."""
        if witness == "rest" and self._doubts(newest_id):
            return
        if newest_id > self.newest_id:
            self.newest_id, self.seen, self.witness, self.checked = newest_id, now, witness, now
            self._young.append((now, newest_id))
            self._below = 0
        elif witness == "rest":
            if newest_id == self.newest_id:
                self.checked = now
                self._young.append((now, newest_id))
                self._below = 0
            else:
                self._refute(newest_id, now)
        if witness == "stream":
            self.stream_at = now

    def _doubts(self, newest_id: int) -> bool:
        """Whether this answer of REST is far above all others, and the first that is: a single one may be wrong."""
        before, self._doubted = self._doubted, None
        if newest_id <= self.newest_id + ID_JUMP or (before is not None and abs(newest_id - before) <= ID_JUMP):
            return False
        self._doubted = newest_id
        return True

    def _refute(self, newest_id: int, now: float) -> None:
        """Count an answer of REST below `newest_id`. One is behind what is known and proves nothing. Several, while for
        minutes nobody confirms that id, show that it was wrong, whoever showed it."""
        self._below += 1
        shown = self.seen if self.checked is None else self.checked
        if self._below >= REFUTED_BY and now - shown > REFUTED_AFTER_S:
            self.newest_id, self.seen, self.witness, self.checked = newest_id, now, "rest", now
            self.settled_id = min(self.settled_id, newest_id)
            self._young.clear()
            self._below = 0

    def began(self, from_id: int, newest_id: int) -> None:
        """Record where a stream with this newest id began: its first trades may never have been stored.

        Only of a stream that agrees with what is known. Where a venue numbers its trades anew, or a head is wrong, all
        ids from there on would be missing.
        """
        if abs(newest_id - self.newest_id) <= ID_JUMP:
            self.from_id = min(self.from_id, from_id)

    def settle(self, now: float) -> None:
        """Advance `settled_id` and `proven` to what was seen at least `SETTLE_S` ago.

        Only then do absent ids count as missing, so completeness can only be claimed for that time: after an hour
        without a witness, the first answer reveals ids that have been missing for an hour.
        """
        while self._young and now - self._young[0][0] >= SETTLE_S:
            self.proven, settled_id = self._young.popleft()
            self.settled_id = max(self.settled_id, settled_id)

    def take_clock_offset(self) -> int | None:
        """Measured since the last time that it was taken."""
        offset_ms, self.clock_offset_ms = self.clock_offset_ms, None
        return offset_ms

    def due(self, now: float, ask_every_s: float) -> bool:
        """Whether to ask REST now."""
        asked_s = float("inf") if self.asked_at is None else now - self.asked_at
        quiet = self.stream_at is None or now - self.stream_at >= QUIET_S
        return asked_s >= (ask_every_s if quiet else ASK_ANYWAY_S)


class Heads:
    """The heads of all products. Used by the gap filler's loop only; not thread-safe.

    `configured`: products named in the settings; others are live as long as a producer reports them.
    """

    def __init__(self, sources: Iterable[Source], bus: Bus, configured: Iterable[Key], stop: threading.Event) -> None:
        self._sources = {source.venue: source for source in sources}
        self._bus, self._configured, self._stop = bus, frozenset(configured), stop
        self._log = get_logger()
        self._known: dict[Key, ProductHead] = {}
        self._told: deque[tuple[dict[str, object], float]] = deque(maxlen=10_000)
        self._asking: dict[Key, Future[int]] = {}
        self._pool = ThreadPoolExecutor(ASKERS, thread_name_prefix="heads")
        self._reader: pulsar.Reader | None = None
        self._open_reader_at = self._started = time.monotonic()
        self._written = -WRITE_EVERY_S

    def look(self, ledger: Ledger) -> None:
        """Process the witnesses' reports, ask REST where due, and store the heads. Raises what the database raises."""
        now = time.monotonic()
        self._listen(now)
        if now - self._written >= WRITE_EVERY_S:
            for key, (first, newest) in ledger.live_products().items():
                if key not in self._known and key[0] in self._sources:
                    self._known[key] = ProductHead(first, newest, now - SETTLE_S, "rest", settled_id=newest)
        while self._told:
            record, at = self._told.popleft()
            self._take(record, at)
        self._collect(now)
        self._ask(now)
        if now - self._written >= WRITE_EVERY_S:
            self._written = now
            self._write(ledger, now)

    def ages(self) -> dict[Key, float]:
        """Return, per live product, the seconds since the newest trade was last confirmed."""
        now = time.monotonic()
        real = {key: head for key, head in self._known.items() if head.real}
        return {key: float("inf") if head.proven is None else now - head.proven for key, head in real.items()}

    def newest(self, key: Key) -> int | None:
        """Return the newest confirmed id; None if unknown."""
        head = self._known.get(key)
        return head.newest_id if head and head.checked is not None else None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- witnesses ----------------------------------------------------------------------------------------------------

    def _listen(self, now: float) -> None:
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
                reader_listener=lambda _, message: self._heard(message.data()),
            )
        except pulsar.PulsarException as error:
            self._reader = None
            self._log.warning(events.BROKER_RETRY, on="control/heads", error=str(error))

    def _heard(self, data: bytes) -> None:
        """Handle a message. Runs in the client's thread: must be quick. Never raises."""
        try:
            self._told.append((schemas.decode("head", data), time.monotonic()))
        except Exception as error:  # whatever a decoder raises on bytes that are not Avro
            self._log.warning(events.PARSE_ERROR, reason="head", detail=f"{type(error).__name__}: {error}"[:200])

    def _take(self, record: dict[str, object], at: float) -> None:
        key = (str(record["venue"]), str(record["product_id"]))
        newest, first = record["newest_id"], record["from_id"]
        if key[0] not in self._sources or not isinstance(newest, int) or not isinstance(first, int):
            return
        if not 0 <= first <= newest < MAX_ID:
            return
        if key not in self._known:
            strangers = sum(not head.real for head in self._known.values())
            if key not in self._configured and strangers >= MOST_STRANGERS:
                return
            real, kind = key in self._configured, str(record["asset_class"])
            self._known[key] = ProductHead(first, first - 1, at, "stream", asset_class=kind, real=real)
        self._known[key].began(first, newest)
        self._known[key].told(newest, "stream", at)
        if isinstance(offset_us := record.get("clock_offset_us"), int) and abs(offset_us) <= MOST_OFFSET_US:
            self._known[key].clock_offset_ms = round(offset_us / 1000)

    def _ask(self, now: float) -> None:
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
                self._asking[key] = self._pool.submit(source.newest_trade, key[1])

    def _collect(self, now: float) -> None:
        for key, answer in [(key, answer) for key, answer in self._asking.items() if answer.done()]:
            del self._asking[key]
            try:
                self._known[key].told(answer.result(), "rest", now)
                self._known[key].real = True
            except Refused as error:
                self._log.warning(events.REQUEST_FAILED, venue=key[0], product=key[1], error=str(error))
                if not self._known[key].real:
                    del self._known[key]
            except (PipelineError, Stopped) as error:
                if not self._stop.is_set():
                    self._log.warning(events.REQUEST_FAILED, venue=key[0], product=key[1], error=str(error))

    # -- ledger -------------------------------------------------------------------------------------------------------

    def _write(self, ledger: Ledger, now: float) -> None:
        for key, head in list(self._known.items()):
            idle_s = now - (head.stream_at or self._started)
            if key not in self._configured and idle_s > RETIRE_AFTER_S:
                self._log.info(events.PRODUCT_RETIRED, venue=key[0], product=key[1])
                ledger.retire(*key)
                del self._known[key]
                continue
            head.settle(now)
        ledger.write_heads(
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
        )

"""The wait until the ledger shows what a load has published."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pipeline.broker.publisher import Publisher
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.database.ledger import Hour, Ledger
from producers.dukascopy.instruments import VENUE
from producers.dukascopy.job import Job
from producers.dukascopy.piece import Means
from producers.dukascopy.plan import Open

IDLE_S = 3.0  # a writer that has read everything needs less than a second to commit it
# A supervised program has 3.5 s to end; the writer stores an hour within half a second.
AT_STOP_S = 1.0


class Storing:
    """Waits until published hours are stored. `patience_s`: a job of which nothing is stored for this long gets an
    error. `on_progress`: called for every hour stored."""

    def __init__(
        self, means: Means, ledger: Callable[[], Ledger], patience_s: float, on_progress: Callable[[], None]
    ) -> None:
        self._means, self._ledger, self._patience_s, self._on_progress = means, ledger, patience_s, on_progress
        self._stop = means.stop

    def wait(self, job: Job, publisher: Publisher) -> None:
        """Wait until the ledger shows what was published; what the writer refused stays missing."""
        while not self._stop.is_set() and publisher.pending and not publisher.failed:
            publisher.flush(0.5)
        idle_since, said_at, pause = None, time.monotonic(), 0.05
        least, moved_at = None, time.monotonic()
        while job.sent and not self._stop.is_set():
            known = self._known(job)
            self._reopen_refused(job, known)
            stored = self._count(job, known)
            if not job.sent or publisher.failed:
                break
            behind = None if stored else self._behind(publisher.topic)
            idle_since = (idle_since or time.monotonic()) if behind == 0 else None
            if idle_since is not None and time.monotonic() - idle_since > IDLE_S:
                job.refuse_sent(known)
                break
            if stored or (behind is not None and (least is None or behind < least)):
                least, moved_at = behind, time.monotonic()
            if time.monotonic() - moved_at > self._patience_s:
                job.error = f"the writer stores nothing; {behind} messages of its topic are waiting"
                break
            if time.monotonic() - said_at > 10:
                said_at = time.monotonic()
                get_logger().info(
                    events.WAITING, on="writer", text=f"{len(job.sent)} published hours are not stored yet"
                )
            self._stop.wait(pause)
            pause = min(0.5, pause * 1.5)
        if self._stop.is_set():
            self._stopped(job, publisher)
        job.sent.clear()

    def _count(self, job: Job, known: Mapping[int, Hour]) -> bool:
        """Count the hours that the ledger shows now. Returns whether there were any."""
        stored = [hour_us for hour_us, sent in job.sent.items() if sent.shown_by(known.get(hour_us))]
        for hour_us in stored:
            del job.sent[hour_us]
            job.done.setdefault(hour_us, None)
            job.published += 1
            self._on_progress()
        return bool(stored)

    def _stopped(self, job: Job, publisher: Publisher) -> None:
        """Wait at most `AT_STOP_S` more. Hours stored by then count as done; the rest is reported as missing, and the
        next run finds in the ledger whether it was stored after all."""
        until = time.monotonic() + AT_STOP_S
        publisher.flush(AT_STOP_S)
        while job.sent:
            self._count(job, self._known(job))
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        why = "stopped before the broker had it" if publisher.pending else "published before the stop, not stored yet"
        job.done.update(dict.fromkeys(job.sent, Open(why)))

    def _known(self, job: Job) -> Mapping[int, Hour]:
        return self._ledger().quote_hours(VENUE, job.instrument.product_id, min(job.sent), max(job.sent) + 1)

    def _reopen_refused(self, job: Job, known: Mapping[int, Hour]) -> None:
        """Handle hours that the writer did not store as final: some rows refused, or not closed by its calendar."""
        for hour_us, sent in list(job.sent.items()):
            hour = known.get(hour_us)
            if hour is None or not sent.stored_as_less(hour):
                continue
            del job.sent[hour_us]
            if sent.state == "closed":
                job.not_closed.add(hour_us)
            else:
                job.done[hour_us] = Open(
                    "some of its rows were refused, see the topics dead-letters/*; needs a second look",
                    hour.fetched_at_us + self._means.confirm_us,
                )
                job.published += 1
                self._on_progress()

    def _behind(self, topic: str) -> int | None:
        """The number of messages the writer has not stored; None if the broker does not answer."""
        try:
            return self._means.backpressure.messages_behind(topic)
        except (PipelineError, ValueError, KeyError):
            return None

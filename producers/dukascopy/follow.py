"""`--follow`: poll for new hours, and report on `/health`."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from pipeline.core.runtime import Stop
from producers.dukascopy import metrics
from producers.dukascopy.command import Request, load_all, report_open
from producers.dukascopy.instruments import VENUE, Instrument
from producers.dukascopy.job import Job
from producers.dukascopy.loader import Loader

LONGEST_REST_S = 3600.0


class Following:
    """Polls all instruments. Healthy if every instrument's last successful poll is at most two intervals old.

    A poll succeeds for an instrument if all answers were understood and stored, or nothing was due. A single hour that
    cannot be fetched while others can does not count as a failure: it is listed in `open_hours`.
    """

    def __init__(
        self, loader: Loader, instruments: list[Instrument], request: Request, poll_s: float, stop: Stop
    ) -> None:
        self._loader, self._instruments, self._request = loader, instruments, request
        self._poll_s, self._stop = poll_s, stop
        self._well_at = time.monotonic()
        self._open: dict[str, int] = {}
        self._failing: dict[str, str] = {}
        self._why = ["first poll running"]
        self._waiting_for: str | None = None
        self._own_trouble: defaultdict[str, set[int]] = defaultdict(set)  # hours by product
        self._resting: dict[str, tuple[float, float]] = {}  # by product: until (monotonic), and how long
        loader.on_progress = self._alive

    def waits_for(self, service: str | None) -> None:
        """Report on `/health` that the process waits for this service; None: for none."""
        self._waiting_for = service

    def _alive(self) -> None:
        """Count stored hours as success, so that a long first load is not reported as unhealthy."""
        if not self._failing:
            self._well_at = time.monotonic()

    def run(self) -> None:
        while not self._stop.is_set():
            self._poll()
            self._stop.wait(self._poll_s)

    def _poll(self) -> None:
        now = time.monotonic()
        due = [one for one in self._instruments if self._resting.get(one.product_id, (0.0, 0.0))[0] <= now]
        jobs = load_all(self._loader, due, self._request, self._stop, follow=True)
        if self._stop.is_set():
            return
        report_open(jobs, to_stderr=False)
        for job in jobs:
            self._judge(job)
        down = self._loader.means.feed.wait_s() and not any(job.error or job.unproven for job in jobs)
        reasons = list(dict.fromkeys(self._failing.values())) or ["all well"]
        self._why = ["the feed does not answer"] if down and self._failing else reasons
        if not self._failing:
            self._well_at = time.monotonic()
            metrics.LAST_POLL.labels(VENUE).set(time.time())

    def _judge(self, job: Job) -> None:
        """Record whether the poll failed for this instrument. One that fails entirely is polled with growing pauses."""
        name = job.instrument.product_id
        self._open[name] = len(job.open_hours)
        why = job.error or job.unproven
        if why is None:
            new = [text for hour_us, text in job.failed.items() if hour_us not in self._own_trouble[name]]
            if job.answered or job.published:
                self._own_trouble[name] = set(job.failed)
            elif new:
                why = new[0]
        if job.error is not None:
            rest_s = min(LONGEST_REST_S, 2 * self._resting.get(name, (0.0, self._poll_s / 2))[1])
            self._resting[name] = (time.monotonic() + rest_s, rest_s)
        else:
            self._resting.pop(name, None)
        if why is None:
            self._failing.pop(name, None)
        else:
            self._failing[name] = why

    def report(self) -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - self._well_at
        well = age <= 2 * self._poll_s
        why = self._why if self._waiting_for is None else [f"waiting for {self._waiting_for}"]
        offset_s = self._loader.means.feed.clock.offset_s
        return well, {
            "last_success_age_s": round(age, 1),
            "interval_s": self._poll_s,
            "open_hours": dict(self._open),
            "failing": dict(self._failing),
            "clock_offset_s": None if offset_s is None else round(offset_s, 1),
            "why": list(why),
        }

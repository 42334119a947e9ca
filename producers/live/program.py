"""The process of a live producer: health, broker, connection, shutdown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import Unavailable
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.products import AssetClass
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, now_us
from pipeline.core.settings import PulsarSettings, load
from producers.live.connection import Connection
from producers.live.heads import Heads
from producers.live.live_publisher import LivePublisher
from venues.market_hours import closed_by_week, session_of
from venues.venue import Venue
from venues.venue_clock import NOTABLE_US, VenueClock

GRACE_S = 300.0
FRAME_WITHIN_S = 60.0
STALLED_S = 30.0  # without a confirmation of pending messages
READY_S = 10.0
FLUSH_S = 1.5  # wait for the broker's confirmations on shutdown


class LiveHealth:
    """Health of a live producer. Read by the threads of the health server, set by the main one.

    Healthy if a frame arrived in the last minute, everything received is published, and no product is silent while its
    market moves. Products that the venue refuses or ignores are named in the notes.
    """

    def __init__(self, asset_class: Callable[[str], AssetClass]) -> None:
        self._asset_class = asset_class
        self.connection: Connection | None = None
        self.publisher: LivePublisher | None = None
        self.heads: Heads | None = None
        self.bus: Bus | None = None
        self.died: list[str] = []  # threads that ended by an error
        self._started = time.monotonic()

    def thread_died(self, what: threading.ExceptHookArgs) -> None:
        """Record the error that ended a thread; a `threading.excepthook`."""
        name = what.thread.name if what.thread else "?"
        self.died.append(f"thread {name} died: {what.exc_type.__name__}: {what.exc_value}"[:500])
        get_logger().error(events.FAILED, thread=name, error=f"{what.exc_type.__name__}: {what.exc_value}")

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return (healthy, body) for `/health`."""
        now = time.monotonic()
        connection, publisher = self.connection, self.publisher
        last = connection.last_frame if connection else None
        fresh = last is not None and now - last <= FRAME_WITHIN_S
        grace = now - self._started <= GRACE_S
        body: dict[str, Any] = {
            "status": connection.status if connection else "waiting for the broker",
            "last_frame_age_s": None if last is None else round(now - last, 3),
            "uptime_s": round(now - self._started, 1),
        }
        why = [*self.died] if fresh or grace else [*self.died, f"no frame within {FRAME_WITHIN_S:.0f} s"]
        notes: list[str] = []
        if connection and publisher:
            why += self._publishing_problems(publisher)
            body["products"] = products = {
                p: self._product(connection, publisher, p) for p in connection.venue.products
            }
            why += [
                f"{product}: the stream is silent though the market moved"
                for product in sorted(products)
                if connection.clocks[product].stale
            ]
            notes += [f"{product}: {its['reason']}" for product, its in sorted(products.items()) if "reason" in its]
            why += self._no_data_at_all(connection, products, now)
            body |= {
                "unconfirmed": publisher.pending,
                "dropped": publisher.overflowed,
                "refused_sends": publisher.failed,
            }
            offset_us = connection.clock.offset_us
            body["clock_offset_s"] = None if offset_us is None else round(offset_us / 1e6, 3)
            if offset_us is not None and abs(offset_us) > NOTABLE_US:
                side = "ahead of" if offset_us > 0 else "behind"
                notes.append(f"the venue's clock is {abs(offset_us) / 1e6:.1f} s {side} ours")
        for owner in (self.bus, self.heads):
            why += [f"thread {name} died" for name in (owner.dead_threads() if owner else ())]
        return not why, body | {"why": why, "notes": notes}

    def _publishing_problems(self, publisher: LivePublisher) -> list[str]:
        why = []
        for (space, product), one in publisher.publishers.items():
            if one.attempts and one.trouble and not one.elsewhere:
                why.append(f"{product}: cannot publish to {space}: {one.trouble}")
            elif one.stalled_s() > STALLED_S:
                why.append(f"{product}: no confirmation from the broker on {space} for {one.stalled_s():.0f} s")
        others = [publisher.dead_letters] + ([self.heads.publisher] if self.heads else [])
        why += [f"cannot publish to {o.topic}: {o.trouble}" for o in others if o.attempts and o.trouble]
        return why

    def _no_data_at_all(self, connection: Connection, products: dict[str, dict[str, Any]], now: float) -> list[str]:
        since = connection.last_data or connection.started
        expected = [
            product
            for product, shown in products.items()
            if shown["state"] not in ("refused", "unanswered", "quiet")
            and not closed_by_week(session_of(self._asset_class(product)), now_us())
        ]
        if expected and now - since > GRACE_S:
            return [f"no data for any product for {now - since:.0f} s"]
        return []

    @staticmethod
    def _product(connection: Connection, publisher: LivePublisher, product: str) -> dict[str, Any]:
        """Return a product's `state` (live, quiet, silent: no data since the start, stale, refused, unanswered,
        unpublished, elsewhere) and `reason` where it needs attention."""
        clock, subscriptions = connection.clocks[product], connection.subscriptions
        heard = clock.last_id if connection.venue.watches_trades else product in connection.watch.data_at
        state = "quiet" if clock.quiet else "live" if heard else "silent"
        reasons = []
        problems = {key[0]: problem for key, problem in list(subscriptions.problems.items()) if key[1] == product}
        for channel, problem in problems.items():
            reasons.append(f"{channel} is {problem.state}: {problem.reason}")
        if clock.stale:
            state = "stale"
            reasons.append("the stream is silent though the market moved")
        if (other := subscriptions.other_name(product)) and not problems:
            reasons.append(f"the venue sends it as {other}; configure {other} instead")
        if state == "silent":
            said = connection.watch.rest_says.get(product)
            reasons.append("no data since the start" + (f"; REST: {said}" if said else ""))
        if primary := subscriptions.problem_of(product):
            state = primary.state
        mine = [(space, one) for (space, of), one in publisher.publishers.items() if of == product and one.attempts]
        for space, one in mine:
            if one.trouble:
                state = "elsewhere" if one.elsewhere else "unpublished"
                reasons.append(f"{space}: {one.trouble}")
        shown: dict[str, Any] = {"state": state, "last_trade_id": clock.last_id}
        return shown | ({"reason": "; ".join(dict.fromkeys(reasons))} if reasons else {})


def run_live(program: str, venue: Venue, asset_class: Callable[[str], AssetClass], stop: Stop) -> int:
    """Stream until stopped; returns the exit code."""
    log = get_logger()
    health = LiveHealth(asset_class)
    threading.excepthook = health.thread_died
    server = HealthServer(program, BY_NAME[program].port, health.report)
    log.info(events.STARTED, products=venue.products, health_port=server.port)
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    bus = health.bus = Bus(settings, stop)
    clock = VenueClock()
    heads = health.heads = Heads(settings, venue.name, asset_class, venue.products, clock, stop)
    try:
        publisher = LivePublisher(bus, venue.name, program, venue.products, venue.spaces, asset_class)
        health.publisher = publisher
        publisher.ready(stop, READY_S)
        connection = health.connection = Connection(venue, publisher, heads.heads, clock, stop)
        connection.run()
        log.info(events.STOPPING, unconfirmed=publisher.pending)
        lost = publisher.flush(FLUSH_S)
        log.info(events.STOPPED, unconfirmed=lost)
    except Unavailable:
        if not stop.is_set():
            raise
        log.info(events.STOPPED)
    finally:
        heads.close()
        bus.close()
        server.close()
    return 0

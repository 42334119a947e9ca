"""A live producer as a process: health, broker, connection, and a clean end."""

from __future__ import annotations

import time
from typing import Any

from pipeline import events
from pipeline.bootstrap import broker_when_ready
from pipeline.bus import Bus
from pipeline.errors import Unavailable
from pipeline.health import HealthServer
from pipeline.log import get_logger
from pipeline.process import Stop
from pipeline.programs import BY_NAME
from pipeline.settings import PulsarSettings, load
from producers.connection import Connection
from producers.outlet import Outlet
from producers.venue import Venue

GRACE_S = 300.0
FRAME_WITHIN_S = 60.0
FLUSH_S = 2.0  # the end of the program waits so long for the broker's confirmations


class LiveHealth:
    """A live producer is well when a frame came in the last minute, and no product is dead while its market moves."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.outlet: Outlet | None = None
        self._started = time.monotonic()

    def report(self) -> tuple[bool, dict[str, Any]]:
        now = time.monotonic()
        connection = self.connection
        last = connection.last_frame if connection else None
        fresh = last is not None and now - last <= FRAME_WITHIN_S
        grace = now - self._started <= GRACE_S
        body: dict[str, Any] = {
            "status": connection.status if connection else "waiting for the broker",
            "last_frame_age_s": None if last is None else round(now - last, 3),
            "uptime_s": round(now - self._started, 1),
        }
        why = [] if fresh or grace else [f"no frame within {FRAME_WITHIN_S:.0f} s"]
        if connection:
            stale = sorted(product for product, clock in connection.clocks.items() if clock.stale)
            why += [f"{product}: the stream is silent though the market moved" for product in stale]
            body["products"] = {product: self._product(connection, product) for product in connection.venue.products}
        if self.outlet:
            body |= {"unconfirmed": self.outlet.pending, "dropped": self.outlet.overflowed}
        return not why, body | {"why": why}

    @staticmethod
    def _product(connection: Connection, product: str) -> dict[str, Any]:
        clock = connection.clocks[product]
        refused = connection.refused.get(product)
        state = "refused" if refused else "stale" if clock.stale else "quiet" if clock.quiet else "live"
        return {"state": state, "last_trade_id": clock.last_id} | ({"reason": refused} if refused else {})


def run_live(program: str, venue: Venue, namespaces: tuple[str, ...], stop: Stop) -> int:
    """Until stopped; returns the exit code."""
    log = get_logger()
    health = LiveHealth()
    server = HealthServer(program, BY_NAME[program].port, health.report)
    log.info(events.STARTED, products=venue.products, health_port=server.port)
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    bus = Bus(settings, stop)
    try:
        outlet = health.outlet = Outlet(bus, venue.name, program, venue.products, namespaces)
        connection = health.connection = Connection(venue, outlet, stop)
        connection.run()
        log.info(events.STOPPING, unconfirmed=outlet.pending)
        lost = outlet.flush(FLUSH_S)
        log.info(events.STOPPED, unconfirmed=lost)
    except Unavailable:
        if not stop.is_set():
            raise
        log.info(events.STOPPED)
    finally:
        bus.close()
        server.close()
    return 0

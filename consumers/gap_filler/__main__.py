"""`python -m consumers.gap_filler`: find missing trade ids, fetch the trades by REST and publish them."""

from __future__ import annotations

import click

from consumers.gap_filler.health import GapHealth
from consumers.gap_filler.repair import GapFiller
from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import Unavailable
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import CommonSettings, DatabaseSettings, PulsarSettings, load
from pipeline.database.migrate import database_when_ready
from venues.adapter import Proof
from venues.registry import adapters


@click.command()
@program("gap-filler")
def main() -> int:
    """Repair missing trades of all live venues with contiguous trade ids; runs until stopped."""
    stop = Stop().listen()
    log = get_logger()
    health = GapHealth()
    server = HealthServer("gap-filler", BY_NAME["gap-filler"].port, health.report)
    log.info(events.STARTED, health_port=server.port)
    state_dir = load(CommonSettings).state_dir
    # Few attempts: a worker that waits long for one gap keeps the newer ones waiting.
    venues = {one.name: (one, load(one.settings)) for one in adapters().values() if one.proof is Proof.IDS}
    sources = [one.rest(its, state_dir, stop, attempts=3) for one, its in venues.values()]
    configured = [(one.name, product) for one, its in venues.values() if its.enabled for product in one.products(its)]
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    database_when_ready(load(DatabaseSettings), stop)
    bus = Bus(settings, stop)
    try:
        filler = GapFiller(sources, bus, configured, health, stop)
        filler.run()
        filler.close()
    except Unavailable:
        if not stop.is_set():
            raise
    finally:
        bus.close()
        server.close()
    log.info(events.STOPPED)
    return 0


if __name__ == "__main__":
    main()

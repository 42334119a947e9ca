"""`python -m consumers.gap_filler`: find missing trades, fetch them by REST and publish them."""

from __future__ import annotations

import click

from consumers.gap_filler.health import GapHealth
from consumers.gap_filler.repair import GapFiller
from consumers.gap_filler.repairs import Repairs
from consumers.gap_filler.windows import Windows
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
from venues.registry import adapters


@click.command()
@program("gap-filler")
def main() -> int:
    """Repair missing trades of all live venues, by their ids or by comparison with REST; runs until stopped."""
    stop = Stop().listen()
    log = get_logger()
    health = GapHealth()
    server = HealthServer("gap-filler", BY_NAME["gap-filler"].port, health.report)
    log.info(events.STARTED, health_port=server.port)
    state_dir = load(CommonSettings).state_dir
    # Few attempts: a worker that waits long for one gap keeps the newer ones waiting.
    venues = [(one, load(one.settings)) for one in adapters().values()]
    sources = [one.rest(its, state_dir, stop, attempts=3) for one, its in venues if one.rest]
    compared = [one.recent(its, state_dir, stop, attempts=3) for one, its in venues if one.recent]
    configured = [(one.name, product) for one, its in venues if its.enabled for product in one.products(its)]
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    database_when_ready(load(DatabaseSettings), stop)
    bus = Bus(settings, stop)
    try:
        repairs = Repairs(bus)
        windows = Windows(compared, repairs, configured, health, stop)
        filler = GapFiller(sources, bus, repairs, configured, health, stop)
        filler.run()
        filler.close()
        windows.close()
        repairs.flush(0.3)
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

"""Missing trade ids are found, fetched from the venue and published again. `python -m consumers.gap_filler`"""

from __future__ import annotations

import click

from consumers.gap_health import GapHealth
from consumers.repair import GapFiller
from pipeline import events
from pipeline.bootstrap import broker_when_ready
from pipeline.bus import Bus
from pipeline.errors import Unavailable
from pipeline.health import HealthServer
from pipeline.log import get_logger
from pipeline.migrate import database_when_ready
from pipeline.process import Stop, program
from pipeline.programs import BY_NAME
from pipeline.settings import CoinbaseSettings, CommonSettings, DatabaseSettings, KrakenSettings, PulsarSettings, load
from producers.coinbase.live import products_of as coinbase_products
from producers.coinbase.rest import CoinbaseRest
from producers.filling import Source
from producers.kraken.live import products_of as kraken_products
from producers.kraken.rest import KrakenRest


@click.command()
@program("gap-filler")
def main() -> int:
    """Repair missing trades of Kraken and Coinbase."""
    stop = Stop().listen()
    log = get_logger()
    health = GapHealth()
    server = HealthServer("gap-filler", BY_NAME["gap-filler"].port, health.report)
    log.info(events.STARTED, health_port=server.port)
    state_dir = load(CommonSettings).state_dir
    # Few attempts: a worker that waits long for one hole keeps the newer ones waiting.
    kraken, coinbase = load(KrakenSettings), load(CoinbaseSettings)
    sources: list[Source] = [
        KrakenRest(kraken, state_dir, stop, attempts=3),
        CoinbaseRest(coinbase, state_dir, stop, attempts=3),
    ]
    configured = [
        *(("kraken", product) for product in kraken_products(kraken) if kraken.enabled),
        *(("coinbase", product) for product in coinbase_products(coinbase) if coinbase.enabled),
    ]
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

"""`python -m producers.kraken`: trades and tickers of Kraken, live or from its history."""

from __future__ import annotations

from typing import Any

import click

from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import CommonSettings, KrakenSettings, load
from producers.history.options import history_options, wish_of
from producers.history.trades import describe, run_load
from producers.live.program import run_live
from venues.kraken.rest import KrakenRest
from venues.kraken.stream import KrakenVenue, products_of


@click.command()
@click.option("--products", metavar="LIST", help="Comma list or JSON list [KRAKEN_PRODUCT_IDS].")
@history_options
@program("kraken")
def main(products: str | None, historical: bool, live: bool, **options: Any) -> int:
    """Stream Kraken's trades and tickers onto the topics trades/kraken.* and tickers/kraken.*, or load its history."""
    settings = load(KrakenSettings, product_ids=products, last_n_days=options["last_n_days"])
    state_dir = load(CommonSettings).state_dir
    stop = Stop().listen()
    if historical or (settings.live_or_historical == "historical" and not live):
        wish = wish_of(products_of(settings), settings.last_n_days, **options)
        get_logger().info(events.STARTED, mode="historical", **describe(wish))
        rest = KrakenRest(settings, state_dir, stop)
        rest.spelling.learn(wish.products)
        return run_load(rest, wish, stop)
    if not settings.enabled:
        get_logger().info(events.DISABLED, text="KRAKEN_ENABLED is false")
        return 0
    venue = KrakenVenue(settings, state_dir, stop)
    return run_live("kraken", venue, venue.namespaces, stop)


if __name__ == "__main__":
    main()

"""`python -m producers.coinbase`: trades, tickers and candles of Coinbase, live or from its history."""

from __future__ import annotations

from typing import Any

import click

from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import CoinbaseSettings, CommonSettings, load
from producers.history.options import history_options, wish_of
from producers.history.trades import describe, run_load
from producers.live.program import run_live
from venues.coinbase.rest import CoinbaseRest
from venues.coinbase.stream import CoinbaseVenue, products_of


@click.command()
@click.option("--products", metavar="LIST", help="Comma list or JSON list [COINBASE_PRODUCT_IDS].")
@history_options
@program("coinbase")
def main(products: str | None, historical: bool, live: bool, **options: Any) -> int:
    """Stream Coinbase's trades, tickers and candles onto the topics */coinbase.*, or load its history of trades."""
    settings = load(CoinbaseSettings, product_ids=products, last_n_days=options["last_n_days"])
    state_dir = load(CommonSettings).state_dir
    stop = Stop().listen()
    if historical and not live:
        wish = wish_of(products_of(settings), settings.last_n_days, **options)
        get_logger().info(events.STARTED, mode="historical", **describe(wish))
        return run_load(CoinbaseRest(settings, state_dir, stop), wish, stop)
    if not settings.enabled:
        get_logger().info(events.DISABLED, text="COINBASE_ENABLED is false")
        return 0
    venue = CoinbaseVenue(settings, state_dir, stop)
    return run_live("coinbase", venue, venue.namespaces, stop)


if __name__ == "__main__":
    main()

"""The command line of every live venue: `python -m producers.<venue>`."""

from __future__ import annotations

from typing import Any

import click

from pipeline.core import events
from pipeline.core.errors import WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import CommonSettings, load
from producers.history.options import history_options, refuse_beside_stream, request_of
from producers.history.recent import run_recent
from producers.history.request import describe
from producers.history.trades import run_load
from producers.live.program import run_live
from venues.registry import adapter_of


def command_of(name: str) -> click.Command:
    """Return the command of a venue: live unless `--historical` or the venue's setting asks for history."""
    adapter = adapter_of(name)
    prefix = name.upper()

    @click.command(help=f"Stream {adapter.title} to the topics */{name}.*, or load its trade history.")
    @click.option("--products", metavar="LIST", help=f"Comma list or JSON list [{prefix}_PRODUCT_IDS].")
    @history_options
    @program(name)
    def main(products: str | None, historical: bool, live: bool, **options: Any) -> int:
        settings = load(adapter.settings, product_ids=products, last_n_days=options["last_n_days"])
        state_dir = load(CommonSettings).state_dir
        stop = Stop().listen()
        by_setting = getattr(settings, "live_or_historical", "live") == "historical"
        if (historical or by_setting) and not live:
            if adapter.rest is None and adapter.recent is None:
                other = "start it without --historical."
                if adapter.candles is not None:
                    other = f"its candles have: python -m producers.exchange_candles --exchanges={name} --symbols=..."
                raise WrongUse(f"{adapter.title}'s prices have no history that could be loaded; {other}")
            request = request_of(adapter.products(settings), settings.last_n_days, **options)
            get_logger().info(events.STARTED, mode="historical", **describe(request))
            if adapter.recent is not None:
                return run_recent(adapter.recent(settings, state_dir, stop), request, stop)
            assert adapter.rest is not None
            source = adapter.rest(settings, state_dir, stop)
            source.prepare(request.products)
            return run_load(source, request, stop)
        refuse_beside_stream(options)
        if not settings.enabled:
            get_logger().info(events.DISABLED, text=f"{prefix}_ENABLED is false")
            return 0
        venue = adapter.stream(settings, state_dir, stop)
        return run_live(name, venue, adapter.asset_class, stop)

    return main

"""Prepare a run: the exchanges, their markets, and the products that enough of them list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import Stop
from pipeline.core.settings import CommonSettings, load
from pipeline.core.stopping import Stopped
from producers.exchange_candles.exchange import ATTEMPTS_AGAIN, Exchange
from producers.exchange_candles.names import exchanges_of
from producers.exchange_candles.settings import ExchangeCandlesSettings
from producers.exchange_candles.symbols import check_symbols

PROGRAM = "exchange-candles"
LONGEST_S = 604_800  # a week; where longer candles begin is not known, and months vary in length


def exchanges_wanted(
    settings: ExchangeCandlesSettings, venues: Sequence[str], granularity_s: int, stop: Stop
) -> list[Exchange]:
    urls = {exchanges_of([name], "EXCHANGE_CANDLES_URLS")[0]: url for name, url in settings.urls.items()}
    folder: Path = load(CommonSettings).state_dir
    made = [
        Exchange(venue, stop, folder, base_url=urls.get(venue), delay_s=settings.api_call_delay_seconds)
        for venue in venues
    ]
    for exchange in made:
        offered = [seconds for seconds in exchange.granularities() if seconds <= LONGEST_S]
        if granularity_s not in offered:
            minutes = ", ".join(f"{s // 60}" for s in offered if s % 60 == 0)
            raise WrongUse(
                f"--candle-granularity-minutes={granularity_s // 60}: {exchange.venue} does not offer it; "
                f"it has {minutes or 'no candles'}."
            )
    return made


def together(calls: Sequence[Callable[[], Any]]) -> None:
    """Run all calls in parallel threads and wait for them."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load_markets(exchanges: Sequence[Exchange]) -> None:
    """Load the markets of all exchanges that have not answered yet, in parallel. Logs those that still do not answer;
    raises `WrongUse` if one refuses a setting."""
    wrong: list[WrongUse] = []

    def load_one(exchange: Exchange) -> None:
        try:
            exchange.load_markets(ATTEMPTS_AGAIN)
        except WrongUse as error:
            wrong.append(error)
        except PipelineError as error:
            get_logger().error(
                events.EXCHANGE_DOWN,
                venue=exchange.venue,
                error=str(error),
                text=f"{exchange.venue} does not answer: its symbols are not checked",
            )
        except Stopped:
            pass

    together([lambda e=exchange: load_one(e) for exchange in exchanges if not exchange.loaded])  # type: ignore[misc]
    if wrong:
        raise wrong[0]


def check(products: Sequence[str], exchanges: Sequence[Exchange], required: int) -> tuple[str, ...]:
    listed = {e.venue: {p for p in products if e.lists(p)} for e in exchanges if e.loaded}
    unknown = [e.venue for e in exchanges if not e.loaded]
    return tuple(check_symbols(products, listed, required, unknown))

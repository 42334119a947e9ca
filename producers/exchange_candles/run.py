"""A run: check what was asked for, then one thread per exchange, once or for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import events
from pipeline.bootstrap import broker_when_ready
from pipeline.bus import Bus
from pipeline.database import connect, connect_when_ready
from pipeline.errors import PipelineError, Unavailable, WrongUse
from pipeline.health import HealthServer
from pipeline.log import get_logger
from pipeline.migrate import database_when_ready
from pipeline.moments import whole_hour_us
from pipeline.process import Stop, now_us
from pipeline.programs import BY_NAME
from pipeline.settings import CommonSettings, DatabaseSettings, ExchangeCandlesSettings, PulsarSettings, load
from producers.exchange_candles import state
from producers.exchange_candles.dry import show
from producers.exchange_candles.exchange import ATTEMPTS_AT_START, Exchange
from producers.exchange_candles.names import exchanges_of
from producers.exchange_candles.symbols import check_symbols, read_symbols, required_of
from producers.exchange_candles.worker import Outcome, Plan, Worker
from producers.socket import Stopped

PROGRAM = "exchange-candles"
MOST_EXCHANGES = 63  # consumers.consensus has one bit for each


@dataclass(frozen=True)
class Wish:
    """How to run, beside the settings."""

    follow: bool = False
    dry: bool = False
    dry_limit: int = 10


def run(settings: ExchangeCandlesSettings, wish: Wish, stop: Stop) -> int:
    """Returns the exit code: 1 when something asked for is not there in the end."""
    began_us = now_us()
    venues = exchanges_of(settings.exchanges)
    if len(venues) > MOST_EXCHANGES:
        raise WrongUse(f"--exchanges: {len(venues)} are named; a consensus has at most {MOST_EXCHANGES}.")
    start_us = whole_hour_us(settings.backfill_start_date, began_us, "--backfill-start-date")
    if start_us >= began_us:
        raise WrongUse("--backfill-start-date lies in the future.")
    required = required_of(venues, settings.min_exchanges_required)
    plan = Plan(
        settings.granularity_minutes * 60,
        start_us,
        {"exchanges": sorted(venues), "required": required, "as_of_us": began_us},
        **({"patience_s": None} if wish.follow else {}),
    )
    exchanges = _exchanges(settings, venues, plan.granularity_s, stop)
    if wish.dry:
        return _dry(settings, exchanges, required, plan, wish, stop)

    broker_when_ready(load(PulsarSettings), stop)
    database_when_ready(load(DatabaseSettings), stop)
    if stop.is_set():
        return 0
    products = _products(settings, exchanges, required, stop)
    bus = Bus(load(PulsarSettings), stop)
    workers = [Worker(exchange, plan, bus, load(DatabaseSettings), stop) for exchange in exchanges]
    try:
        if wish.follow:
            return _follow(settings, workers, products, required, stop)
        return _once(workers, products, plan, stop)
    except Stopped:
        return 0
    finally:
        for worker in workers:
            worker.close()
        bus.close()


def _exchanges(
    settings: ExchangeCandlesSettings, venues: Sequence[str], granularity_s: int, stop: Stop
) -> list[Exchange]:
    urls = {exchanges_of([name])[0]: url for name, url in settings.urls.items()}
    folder: Path = load(CommonSettings).state_dir
    made = [
        Exchange(venue, stop, folder, base_url=urls.get(venue), delay_s=settings.api_call_delay_seconds)
        for venue in venues
    ]
    for exchange in made:
        offered = sorted(exchange.granularities())
        if granularity_s not in offered:
            minutes = ", ".join(f"{s // 60}" for s in offered if s % 60 == 0)
            raise WrongUse(
                f"--candle-granularity-minutes={granularity_s // 60}: {exchange.venue} does not offer it; "
                f"it has {minutes or 'no candles'}."
            )
    return made


def _together(calls: Sequence[Callable[[], Any]]) -> None:
    """Run all, each in its thread; what one raises does not end the others."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _load_markets(exchanges: Sequence[Exchange]) -> None:
    def one(exchange: Exchange) -> None:
        try:
            exchange.load_markets(ATTEMPTS_AT_START)
        except PipelineError as error:
            get_logger().error(
                events.EXCHANGE_DOWN, venue=exchange.venue, error=str(error),
                text=f"{exchange.venue} does not answer: its symbols are not checked",
            )  # fmt: skip
        except Stopped:
            pass

    _together([lambda e=exchange: one(e) for exchange in exchanges if not exchange.loaded])  # type: ignore[misc]


def _check(products: Sequence[str], exchanges: Sequence[Exchange], required: int) -> tuple[str, ...]:
    listed = {e.venue: {p for p in products if e.lists(p)} for e in exchanges if e.loaded}
    unknown = [e.venue for e in exchanges if not e.loaded]
    return tuple(check_symbols(products, listed, required, unknown))


def _products(
    settings: ExchangeCandlesSettings, exchanges: Sequence[Exchange], required: int, stop: Stop
) -> tuple[str, ...]:
    with connect_when_ready(load(DatabaseSettings), PROGRAM, stop) as conn:
        products = read_symbols(settings.symbols, settings.symbols_file, conn)
    _load_markets(exchanges)
    if not any(exchange.loaded for exchange in exchanges) and not stop.is_set():
        raise Unavailable(f"none of {', '.join(e.venue for e in exchanges)} answers; try again later.")
    return _check(products, exchanges, required) if not stop.is_set() else ()


def _once(workers: Sequence[Worker], products: Sequence[str], plan: Plan, stop: Stop) -> int:
    outcomes: dict[str, Outcome] = {}

    def one(worker: Worker) -> None:
        try:
            outcomes[worker.venue] = worker.run_pass(products)
        except Exception as error:  # one exchange's trouble must not look like success
            get_logger().exception(events.FAILED, venue=worker.venue)
            outcomes[worker.venue] = Outcome(problems=[f"{worker.venue}: {type(error).__name__}: {error}"])

    _together([lambda w=worker: one(w) for worker in workers])  # type: ignore[misc]
    problems = [text for outcome in outcomes.values() for text in outcome.problems]
    calls = {venue: outcome.calls for venue, outcome in sorted(outcomes.items())}
    candles = {venue: outcome.candles for venue, outcome in sorted(outcomes.items())}
    get_logger().info(events.LOAD_DONE, calls=calls, candles=candles, problems=problems)
    if stop.is_set():
        return 0
    with connect(load(DatabaseSettings), PROGRAM, read_only=True) as conn:
        for product in products:
            found = state.without_consensus(conn, product, plan.granularity_s, plan.start_us, now_us())
            if found:
                get_logger().warning(
                    events.CONSENSUS_MISSING, product=product, candles=found.candles, required=found.required,
                    missing=found.missing, left_out=found.left_out,
                    text=f"{found.candles} candles of {product} have no consensus of {found.required}: "
                    f"missing {', '.join(found.missing) or 'none'}, left out {', '.join(found.left_out) or 'none'}",
                )  # fmt: skip
    if problems:
        raise PipelineError("not everything could be loaded: " + "; ".join(problems))
    return 0


def _follow(
    settings: ExchangeCandlesSettings, workers: Sequence[Worker], products: tuple[str, ...], required: int, stop: Stop
) -> int:
    health = HealthServer(PROGRAM, BY_NAME[PROGRAM].port, lambda: _report(workers, settings.poll_seconds))
    get_logger().info(events.STARTED, health_port=health.port, symbols=list(products))
    present = [products]
    threads = [
        threading.Thread(target=worker.run_for_ever, args=(lambda: present[0], settings.poll_seconds), daemon=True)
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    asked: tuple[str, ...] = ()
    while not stop.wait(settings.poll_seconds):
        if dead := [worker.venue for worker, thread in zip(workers, threads, strict=True) if not thread.is_alive()]:
            stop.set()
            raise PipelineError(f"the work on {', '.join(dead)} ended unexpectedly; see the log.")
        try:  # the watchlist may have changed
            with connect(load(DatabaseSettings), PROGRAM, read_only=True) as conn:
                now = read_symbols(settings.symbols, settings.symbols_file, conn)
            if now != asked:
                present[0] = _check(now, [worker.exchange for worker in workers], required)
                asked = now
        except PipelineError as error:
            get_logger().warning(events.SYMBOLS_LEFT_OUT, error=str(error), text="going on with the present symbols")
    for thread in threads:
        thread.join(3)
    get_logger().info(events.STOPPED)
    return 0


def _report(workers: Sequence[Worker], poll_s: float) -> tuple[bool, dict[str, Any]]:
    """Well while every exchange answered within three polls, at least five minutes."""
    ages = {worker.venue: round(time.monotonic() - worker.last_answer) for worker in workers}
    late = [venue for venue, age in ages.items() if age > max(300.0, 3 * poll_s)]
    why = [f"{venue} has not answered for {ages[venue]} s" for venue in late]
    problems = {worker.venue: worker.problems for worker in workers if worker.problems}
    return not late, {"why": why or ["all well"], "last_answer_age_s": ages, "problems": problems}


def _dry(
    settings: ExchangeCandlesSettings, exchanges: Sequence[Exchange], required: int, plan: Plan, wish: Wish, stop: Stop
) -> int:
    """Nothing is published and nothing written; a database is asked where there is one."""
    conn = None
    try:
        conn = connect(load(DatabaseSettings), PROGRAM, read_only=True)
        if conn.execute("SELECT to_regclass('exchange_candle_state')").fetchone() == (None,):
            conn.close()
            conn = None
    except Unavailable as error:
        get_logger().warning(events.DATABASE_RETRY, error=str(error), text="shown as if nothing were stored")
    try:
        products = read_symbols(settings.symbols, settings.symbols_file, conn)
        _load_markets(exchanges)
        if stop.is_set():
            return 0
        good = _check(products, exchanges, required)
        problems = [text for exchange in exchanges for text in show(conn, exchange, good, plan, wish.dry_limit)]
    except Stopped:
        return 0
    finally:
        if conn is not None:
            conn.close()
    if problems:
        raise PipelineError("not everything could be asked: " + "; ".join(problems))
    return 0

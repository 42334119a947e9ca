"""A run: check the request, then one thread per exchange, once or forever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.moments import whole_hour_us
from pipeline.core.runtime import Stop, now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.stopping import ENDED_EARLY, Stopped
from pipeline.core.times import OLDEST_US, us_to_iso
from pipeline.database import query
from pipeline.database.connection import connect, connect_when_ready
from pipeline.database.migrate import database_when_ready
from producers.exchange_candles import ledger
from producers.exchange_candles.dry_run import show
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.follow import Following
from producers.exchange_candles.letters import Letters
from producers.exchange_candles.names import exchanges_of
from producers.exchange_candles.plan import Outcome, Plan
from producers.exchange_candles.prepare import PROGRAM, check, exchanges_wanted, load_markets, together
from producers.exchange_candles.settings import ExchangeCandlesSettings
from producers.exchange_candles.symbols import read_symbols, required_of
from producers.exchange_candles.worker import Worker
from schemas.records import Quorum

MOST_EXCHANGES = 63  # consumers.consensus uses one bit per exchange
FLUSH_S = 10.0


@dataclass(frozen=True)
class Request:
    """How to run, in addition to the settings."""

    follow: bool = False
    dry: bool = False
    dry_limit: int = 10


def run(settings: ExchangeCandlesSettings, request: Request, stop: Stop) -> int:
    """Run and return the exit code: 1 if part of the request is still missing."""
    began_us = now_us()
    venues = exchanges_of(settings.exchanges)
    if len(venues) > MOST_EXCHANGES:
        raise WrongUse(f"--exchanges: {len(venues)} exchanges given; a consensus has at most {MOST_EXCHANGES}.")
    start_us = whole_hour_us(settings.backfill_start_date, began_us, "--backfill-start-date")
    if start_us >= began_us:
        raise WrongUse(
            f"--backfill-start-date {settings.backfill_start_date} lies in the future; give a moment that has passed."
        )
    if start_us < OLDEST_US:
        raise WrongUse(
            f"--backfill-start-date {settings.backfill_start_date} lies too far back; candles are stored from"
            f" {us_to_iso(OLDEST_US)[:10]} on."
        )
    required = required_of(venues, settings.min_exchanges_required)
    plan = Plan(
        settings.granularity_minutes * 60,
        start_us,
        Quorum(exchanges=sorted(venues), required=required, as_of_us=began_us),
        int(settings.settle_seconds * 1e6),
        request.follow,
    )
    exchanges = exchanges_wanted(settings, venues, plan.granularity_s, stop)
    if request.dry:
        return _dry(settings, exchanges, required, plan, request, stop)
    if settings.symbols or settings.symbols_file:
        read_symbols(settings.symbols, settings.symbols_file, None)  # refuse invalid input at once
    following = (
        Following(settings, exchanges, required, stop) if request.follow else None
    )  # its health port answers from now on
    try:
        broker_when_ready(load(PulsarSettings), stop)
        if following:
            following.waiting_for = "the database"
        database_when_ready(load(DatabaseSettings), stop)
        if stop.is_set():
            return 0
        return _work(settings, exchanges, required, plan, following, stop)
    except Stopped:
        return 0
    except Unavailable:
        if stop.is_set():
            return 0
        raise


def _work(
    settings: ExchangeCandlesSettings,
    exchanges: Sequence[Exchange],
    required: int,
    plan: Plan,
    following: Following | None,
    stop: Stop,
) -> int:
    products = following.products() if following else _products(settings, exchanges, required, stop)
    if stop.is_set():
        return 0
    bus = Bus(load(PulsarSettings), stop)
    # A supervised process and one started by hand may publish side by side.
    name = bus.own_name(PROGRAM)
    letters = Letters(bus, name)
    workers = [Worker(one, plan, bus, load(DatabaseSettings), letters, name, stop) for one in exchanges]
    try:
        if following:
            return following.run(workers, products)
        return _once(workers, products, plan, letters, stop)
    finally:
        for worker in workers:
            worker.close()
        bus.close()


def _products(
    settings: ExchangeCandlesSettings, exchanges: Sequence[Exchange], required: int, stop: Stop
) -> tuple[str, ...]:
    with connect_when_ready(load(DatabaseSettings), PROGRAM, stop) as conn:
        products = read_symbols(settings.symbols, settings.symbols_file, conn)
    load_markets(exchanges)
    if not any(exchange.loaded for exchange in exchanges) and not stop.is_set():
        raise Unavailable(f"none of {', '.join(e.venue for e in exchanges)} answers; try again later.")
    return check(products, exchanges, required) if not stop.is_set() else ()


def _once(workers: Sequence[Worker], products: Sequence[str], plan: Plan, letters: Letters, stop: Stop) -> int:
    outcomes: dict[str, Outcome] = {}

    def one(worker: Worker) -> None:
        try:
            outcomes[worker.venue] = worker.run_pass(products)
        except Exception as error:  # a failed exchange must not look like success
            get_logger().exception(events.FAILED, venue=worker.venue)
            outcomes[worker.venue] = Outcome(problems=[f"{worker.venue}: {type(error).__name__}: {error}"])

    together([lambda w=worker: one(w) for worker in workers])  # type: ignore[misc]
    problems = [text for outcome in outcomes.values() for text in outcome.problems]
    calls = {venue: outcome.calls for venue, outcome in sorted(outcomes.items())}
    candles = {venue: outcome.candles for venue, outcome in sorted(outcomes.items())}
    stopped = {"text": ENDED_EARLY} if stop.is_set() else {}
    get_logger().info(events.LOAD_DONE, calls=calls, candles=candles, problems=problems, **stopped)
    if stop.is_set():
        return 1
    if not letters.flush(FLUSH_S):
        problems.append("dead letters are not confirmed by the broker")
    problems += _warn_missing(products, plan)
    if problems:
        raise PipelineError("not everything could be loaded: " + "; ".join(problems))
    return 0


def _warn_missing(products: Sequence[str], plan: Plan) -> list[str]:
    """Warn about candles without a consensus, or with one of other exchanges; returns the problems of reading them."""
    problems = []
    with connect(load(DatabaseSettings), PROGRAM, read_only=True) as conn:
        for product in products:
            try:
                known = ledger.known_quorum(conn, product, plan.granularity_s)
                found = ledger.without_consensus(conn, product, plan.granularity_s, plan.start_us, now_us())
            except psycopg.Error as error:
                problems.append(f"{product}: the consensus cannot be read: {error}")
                continue
            if known and not ledger.same_quorum(known, plan.quorum):
                get_logger().warning(
                    events.CONSENSUS_OTHER,
                    product=product,
                    required=known.required,
                    exchanges=known.exchanges,
                    as_of=us_to_iso(known.as_of_us),
                    text=f"the consensus of {product} is that of {known.required} of {', '.join(known.exchanges)}, as "
                    f"asked for at {us_to_iso(known.as_of_us)}: a later run goes first, and several before one",
                )
            if found:
                get_logger().warning(
                    events.CONSENSUS_MISSING,
                    product=product,
                    candles=found.candles,
                    required=found.required,
                    missing=found.missing,
                    left_out=found.left_out,
                    text=f"{found.candles} candles of {product} have no consensus of {found.required}: "
                    f"missing {', '.join(found.missing) or 'none'}, left out {', '.join(found.left_out) or 'none'}",
                )
    return problems


def _dry(
    settings: ExchangeCandlesSettings,
    exchanges: Sequence[Exchange],
    required: int,
    plan: Plan,
    request: Request,
    stop: Stop,
) -> int:
    """Show candles without publishing or writing anything; the database is read if there is one."""
    conn = None
    try:
        conn = connect(load(DatabaseSettings), PROGRAM, read_only=True)
        if query.scalar(conn, "SELECT to_regclass('exchange_candle_state')") is None:
            conn.close()
            conn = None
    except Unavailable as error:
        get_logger().warning(events.DATABASE_RETRY, error=str(error), text="shown as if nothing were stored")
    try:
        products = read_symbols(settings.symbols, settings.symbols_file, conn)
        load_markets(exchanges)
        if stop.is_set():
            return 0
        good = check(products, exchanges, required)
        problems = [text for exchange in exchanges for text in show(conn, exchange, good, plan, request.dry_limit)]
    except Stopped:
        return 0
    finally:
        if conn is not None:
            conn.close()
    if problems:
        raise PipelineError("some requests failed: " + "; ".join(problems))
    return 0

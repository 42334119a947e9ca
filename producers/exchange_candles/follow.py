"""`--follow`: keep running, wait for dependencies, and report on the health port what is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.retry import LOG_EVERY_S
from pipeline.core.runtime import Stop
from pipeline.core.settings import DatabaseSettings, load
from pipeline.database.connection import connect
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.prepare import PROGRAM, check, load_markets
from producers.exchange_candles.settings import ExchangeCandlesSettings
from producers.exchange_candles.symbols import read_symbols
from producers.exchange_candles.worker import Worker

WAIT_S = 5.0  # for symbols, or for an exchange listing them
BEHIND_US = 2_000_000  # less is the whole second of a `Date` and the time that an answer takes


class Following:
    """Opens the health port at once: a broker may take longer to start than the watchdog's two minutes of patience."""

    def __init__(
        self, settings: ExchangeCandlesSettings, exchanges: Sequence[Exchange], required: int, stop: Stop
    ) -> None:
        self._settings, self._exchanges, self._required, self._stop = settings, exchanges, required, stop
        self._workers: Sequence[Worker] = ()
        self.waiting_for: str | None = "the broker"
        self._health = HealthServer(PROGRAM, BY_NAME[PROGRAM].port, self._report)
        get_logger().info(events.STARTED, health_port=self._health.port, exchanges=[one.venue for one in exchanges])

    def products(self) -> tuple[str, ...]:
        """Wait for products that meet the quorum and return them. Raises `WrongUse` if only another option helps."""
        typed = bool(self._settings.symbols or self._settings.symbols_file)
        logged_at = -LOG_EVERY_S
        while not self._stop.is_set():
            try:
                self.waiting_for = "symbols"
                wished = self._wished()
                self.waiting_for = "the exchanges"
                load_markets(self._exchanges)
                if self._stop.is_set():
                    return ()
                return check(wished, self._exchanges, self._required)
            except WrongUse as error:
                # The table may still be filled, and exchanges may still answer: retry.
                if typed and all(one.loaded for one in self._exchanges):
                    raise
                self.waiting_for = f"symbols: {error}"
            except (PipelineError, psycopg.Error) as error:
                self.waiting_for = f"the database: {error}"
            if time.monotonic() - logged_at > LOG_EVERY_S:
                logged_at = time.monotonic()
                get_logger().warning(events.WAITING, on=self.waiting_for)
            self._stop.wait(WAIT_S)
        return ()

    def _wished(self) -> tuple[str, ...]:
        with connect(load(DatabaseSettings), PROGRAM, read_only=True) as conn:
            return read_symbols(self._settings.symbols, self._settings.symbols_file, conn)

    def run(self, workers: Sequence[Worker], products: tuple[str, ...]) -> int:
        """Work until stopped; the symbols may change meanwhile."""
        self._workers, self.waiting_for = workers, None
        poll_s = self._settings.poll_seconds
        get_logger().info(events.SYMBOLS_CHECKED, text=f"following {', '.join(products)}", symbols=list(products))
        present = [products]
        threads = [
            threading.Thread(target=worker.run_for_ever, args=(lambda: present[0], poll_s), daemon=True)
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        asked: tuple[str, ...] = ()
        while not self._stop.wait(poll_s):
            if dead := [worker.venue for worker, thread in zip(workers, threads, strict=True) if not thread.is_alive()]:
                self._stop.set()
                raise PipelineError(f"the work on {', '.join(dead)} ended unexpectedly; see the log.")
            try:
                now = self._wished()
                if now != asked:
                    present[0] = check(now, self._exchanges, self._required)
                    asked = now
            except (PipelineError, psycopg.Error) as error:
                text = "continuing with the current symbols"
                get_logger().warning(events.SYMBOLS_LEFT_OUT, error=str(error), text=text)
        for thread in threads:
            thread.join(3)
        get_logger().info(events.STOPPED)
        return 0

    def _report(self) -> tuple[bool, dict[str, Any]]:
        """Healthy while every exchange has answered within three polls, at least five minutes."""
        if self.waiting_for:
            return False, {"why": [f"waiting for {self.waiting_for}"]}
        ages = {worker.venue: round(time.monotonic() - worker.last_answer) for worker in self._workers}
        late = [venue for venue, age in ages.items() if age > max(300.0, 3 * self._settings.poll_seconds)]
        why = [f"{venue} has not answered for {ages[venue]} s" for venue in late]
        problems = {worker.venue: worker.problems for worker in self._workers if worker.problems}
        behind = {one.venue: round(one.behind_us / 1e6) for one in self._exchanges if one.behind_us > BEHIND_US}
        return not late, {
            "why": why or ["all well"],
            "last_answer_age_s": ages,
            "problems": problems,
            "clock_behind_s": behind,
        }

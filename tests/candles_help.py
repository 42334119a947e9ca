"""Running `producers.exchange_candles` against the simulator, with the writer beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from simulator.testing import Simulator
from tests import hurried

Row = tuple[Any, ...]
VENUES = ("binance", "coinbase", "kraken")
# Of a simulator: all of Kraken's candles, where the real one gives the newest 720, as fast as they are asked for.
HISTORY: dict[str, Any] = {"kraken_ohlc_history": True, "kraken_rest_rate": 1000, "kraken_rest_burst": 1000}
CANDLE_CALLS = {"binance": "klines", "coinbase": "candles", "kraken": "OHLC", "oanda": "candles"}


class Candles:
    """Runs the program against the simulator, and the writer beside it."""

    def __init__(self, env: dict[str, str], python: str, simulator: Simulator) -> None:
        self.env, self._python, self.simulator = env, python, simulator
        self._writer: subprocess.Popen[bytes] | None = None

    def start_writer(self) -> None:
        self._writer = subprocess.Popen([self._python, "-m", "consumers.candles"], env=self.env)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
            self._writer.wait(30)

    def command(self, *flags: str, constants: Mapping[str, float] | None = None) -> list[str]:
        """`constants`: see `tests.hurried`."""
        named = ["--exchanges=binance,coinbase,kraken", "--symbols=BTC/USD"]
        given = {flag.split("=")[0] for flag in flags}
        return [
            *hurried.command("producers.exchange_candles", constants or {}),
            *(n for n in named if n.split("=")[0] not in given),
            *flags,
        ]

    def run(self, *flags: str, constants: Mapping[str, float] | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(*flags, constants=constants)
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=200)

    def calls(self) -> dict[str, int]:
        """Candle calls since the last reset, by venue."""
        venues = self.simulator.stats()["venues"]
        return {
            venue: sum(e["requests"] for path, e in venues.get(venue, {}).items() if path.endswith(name))
            for venue, name in CANDLE_CALLS.items()
        }

    def rows(self, query: str, *values: object) -> list[Row]:
        with psycopg.connect(self.env["DATABASE_URL"], options="-c timezone=UTC") as conn:
            return conn.execute(query.encode(), values).fetchall()


def hours_ago(hours: int) -> datetime:
    """A whole hour. Counted from two minutes ago, so that the hours since are settled."""
    now = datetime.now(UTC) - timedelta(minutes=2)
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)


def events(result: subprocess.CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]

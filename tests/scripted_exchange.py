"""An exchange behind real HTTP that answers as a script says, and a walk over its last day."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from producers.exchange_candles.book import Book, Results
from producers.exchange_candles.ccxt_source import CcxtSource
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.intervals import common, merged
from producers.exchange_candles.looks import Memory
from producers.exchange_candles.rows import Refused, Values
from producers.exchange_candles.walk import Walk
from simulator.config import Config
from simulator.venues.binance.rest import BinanceRest
from simulator.world import World

MIN = 60_000_000

T0 = 1_700_000_040_000_000 // MIN * MIN

FLAT: Values = ("100", "101", "99", "100", "1.5")

Script = Callable[[list[list[Any]], int, int], Any]  # (all rows, startTime, limit) -> the JSON to answer


class Scripted:
    """Binance's interface with the candles of a day until now, answered as `script` says."""

    def __init__(self) -> None:
        self.script: Script = first_from
        self.calls = 0
        self.refusals: list[tuple[int, dict[str, str]]] = []  # status and headers of the next answers
        self.broken: set[str] = set()  # symbols answered by a 500
        self.asked: Counter[str] = Counter()  # by symbol
        self.rows: list[list[Any]] = []
        outer = self
        world = World(Config())
        info = {"symbols": [BinanceRest(world)._market(product) for product in world.products("binance")]}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                body: Any = {"symbols": []}
                status, headers = 200, {}
                if url.path.endswith("/api/v3/exchangeInfo"):
                    body = info
                elif url.path.endswith("/klines"):
                    outer.calls += 1
                    outer.asked[query["symbol"]] += 1
                    if outer.refusals:
                        status, headers = outer.refusals.pop(0)
                    elif query["symbol"] in outer.broken:
                        status = 500
                    body = []
                    if query["interval"] == "1m":
                        body = outer.script(outer.rows, int(query["startTime"]), int(query["limit"]))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def first_from(rows: list[list[Any]], start: int, limit: int) -> Any:
    return [row for row in rows if row[0] >= start][:limit]


def newest_of_window(rows: list[list[Any]], start: int, limit: int) -> Any:
    return [row for row in rows if start <= row[0] < start + limit * 60_000][-100:]


def newest_of_all(rows: list[list[Any]], start: int, limit: int) -> Any:
    return rows[-300:]


def newest_from_there(rows: list[list[Any]], start: int, limit: int) -> Any:
    """The newest 100 of a window of its own, whatever limit was asked for."""
    return [row for row in rows if start <= row[0] < start + 500 * 60_000][-100:]


def newest_of_limit(rows: list[list[Any]], start: int, limit: int) -> Any:
    """As many as were asked for, but the newest of a window of its own."""
    return [row for row in rows if start <= row[0] < start + 500 * 60_000][-limit:]


def one_too_few(rows: list[list[Any]], start: int, limit: int) -> Any:
    return first_from(rows, start, limit)[:-1]


def upside_down(rows: list[list[Any]], start: int, limit: int) -> Any:
    return first_from(rows, start, limit)[::-1]


def twice_and_more(rows: list[list[Any]], start: int, limit: int) -> Any:
    found = first_from(rows, start - 30 * 60_000, limit + 60)
    return found + found[: len(found) // 2]


def few(rows: list[list[Any]], start: int, limit: int) -> Any:
    return first_from(rows, start, min(limit, 37))


def all_of_window(rows: list[list[Any]], start: int, limit: int) -> Any:
    return [row for row in rows if start <= row[0] < start + limit * 60_000]


def newest_before_end(rows: list[list[Any]], start: int, limit: int) -> Any:
    """As many as were asked for before the end of the window, also older ones."""
    return [row for row in rows if row[0] < start + limit * 60_000][-limit:]


def oldest_of_all(rows: list[list[Any]], start: int, limit: int) -> Any:
    return rows[:300]


def oldest_of_limit(rows: list[list[Any]], start: int, limit: int) -> Any:
    return rows[: min(limit, 300)]


def same_page(rows: list[list[Any]], start: int, limit: int) -> Any:
    return rows[600:900]


def of_tomorrow(rows: list[list[Any]], start: int, limit: int) -> Any:
    return [[row[0] + 86_400_000, *row[1:]] for row in first_from(rows, start, limit)]


HONEST = [first_from, one_too_few, upside_down, twice_and_more, few, newest_of_window, all_of_window, newest_before_end]

HOPELESS = [
    newest_of_all,
    newest_from_there,
    newest_of_limit,
    oldest_of_all,
    oldest_of_limit,
    same_page,
    of_tomorrow,
]


class Found:
    """What a walk over the day until a few minutes ago published."""

    def __init__(self, scripted: Scripted, tmp_path: Path, minutes: int = 1200) -> None:
        self.exchange = Exchange("binance", threading.Event(), tmp_path, base_url=scripted.url)
        self.exchange.load_markets(1)
        self.exchange._limit.interval_s = 0.001
        assert isinstance(self.exchange.source, CcxtSource)
        self.exchange.source.api.enableRateLimit = False
        self.final: dict[int, Values] = {}
        self.spans: list[tuple[int, int]] = []
        self.young: dict[int, Values] = {}
        self.letters: list[Refused] = []
        now = self.exchange.now_us() // MIN * MIN
        self.span = (now - minutes * MIN, now - 5 * MIN)
        self.book = Book(Memory(MIN, MIN))
        self.scripted = scripted

    def walk(self) -> Walk:
        def final(rows: dict[int, Values], span: tuple[int, int], at_us: int) -> None:
            self.final |= rows
            self.spans = merged(*self.spans, span)

        results = Results(final, lambda rows, at_us: self.young.update(rows), self.letters.append)
        made = Walk(self.exchange, "BTC-USD", self.book, results, threading.Event(), patient=False)
        made.run(self.span)
        return made

    def truth(self) -> dict[int, str]:
        begin, end = self.span
        return {row[0] * 1000: row[5] for row in self.scripted.rows if begin <= row[0] * 1000 < end}

    def lies(self) -> list[int]:
        """Minutes called final that are missing, or wrong."""
        truth = self.truth()
        wrong = [b for b, values in self.final.items() if b in truth and Decimal(values[4]) != Decimal(truth[b])]
        absent = [b for b in truth if b not in self.final and common(self.spans, [(b, b + MIN)])]
        return wrong + absent

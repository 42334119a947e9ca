"""What answers of exchanges prove. A scripted exchange behind real HTTP is asked by ccxt, as any exchange is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.core.errors import BadData, Unavailable, WrongAnswer
from pipeline.core.runtime import now_us
from producers.exchange_candles.book import Book, Results
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.intervals import common, merged, without
from producers.exchange_candles.looks import Answer, Look, Memory, look_of
from producers.exchange_candles.pages import coarse_us
from producers.exchange_candles.rows import Refused, Rows, Units, Values, floor_us, read_rows
from producers.exchange_candles.walk import Walk
from simulator.binance_rest import BinanceRest
from simulator.config import Config
from simulator.world import World
from venues.floats import without_noise

MIN = 60_000_000
T0 = 1_700_000_040_000_000 // MIN * MIN
FLAT: Values = ("100", "101", "99", "100", "1.5")
Script = Callable[[list[list[Any]], int, int], Any]  # (all rows, startTime, limit) -> the JSON to answer


class Scripted:
    """Binance's interface with the candles of a day until now, answered as `script` says."""

    def __init__(self) -> None:
        self.script: Script = first_from
        self.calls = 0
        self.rows: list[list[Any]] = []
        outer = self
        info = {"symbols": [BinanceRest(World(Config()))._market(World(Config()).products("binance")[0])]}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                body: Any = {"symbols": []}
                if url.path.endswith("/api/v3/exchangeInfo"):
                    body = info
                elif url.path.endswith("/klines"):
                    outer.calls += 1
                    body = []
                    if query["interval"] == "1m":
                        body = outer.script(outer.rows, int(query["startTime"]), int(query["limit"]))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(200)
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


HONEST = [first_from, one_too_few, upside_down, twice_and_more, few, newest_of_window]
HOPELESS = [newest_of_all, newest_from_there, newest_of_limit]


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.server.shutdown()


@pytest.fixture
def scripted(server: Scripted) -> Scripted:
    now = int(time.time() * 1000) // 60_000 * 60_000
    server.script, server.calls = first_from, 0
    server.rows = [
        [now - n * 60_000, "100", "101", "99", "100.5", f"{n % 7 + 1}.25", 0, "0", 1, "0", "0", "0"]
        for n in range(1440, -1, -1)
    ]
    return server


class Found:
    """What a walk over the day until a few minutes ago published."""

    def __init__(self, scripted: Scripted, tmp_path: Path, minutes: int = 1200) -> None:
        self.exchange = Exchange("binance", threading.Event(), tmp_path, base_url=scripted.url)
        self.exchange.load_markets(1)
        self.exchange._limit.interval_s = 0.001
        self.exchange._api.enableRateLimit = False
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


@pytest.mark.parametrize("script", HONEST, ids=lambda script: script.__name__)
def test_whoever_can_be_asked_again_is_complete(scripted: Scripted, tmp_path: Path, script: Script) -> None:
    """Prevents half of a window from being lost: an exchange gave its newest 500 of 1,000, exit 0."""
    scripted.script = script
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert found.lies() == []
    assert found.spans == [found.span], found.book.aside.named()
    assert {b: values[4] for b, values in found.final.items()} == found.truth()
    assert walk.calls < 120, walk.calls


@pytest.mark.parametrize("script", HOPELESS, ids=lambda script: script.__name__)
def test_whoever_cannot_prove_it_is_named(scripted: Scripted, tmp_path: Path, script: Script) -> None:
    """Prevents what was never given from being called empty."""
    scripted.script = script
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert found.lies() == []
    assert without([found.span], found.spans)
    assert found.book.aside.named()
    assert walk.calls < 120, walk.calls


@pytest.mark.parametrize("script", [first_from, one_too_few, upside_down, few], ids=lambda script: script.__name__)
def test_minutes_without_a_trade_are_proven_and_not_asked_for_ever(
    scripted: Scripted, tmp_path: Path, script: Script
) -> None:
    """Prevents an endless search, also where the first hours, and the last, are empty: a pair that began later."""
    del scripted.rows[-200:-7], scripted.rows[300:330], scripted.rows[:400:3]
    scripted.script = script
    found = Found(scripted, tmp_path)
    scripted.rows = [row for row in scripted.rows if row[0] * 1000 >= found.span[0] + 200 * MIN]
    found.walk()
    assert found.lies() == []
    assert found.spans == [found.span], found.book.aside.named()


def test_a_pair_that_never_traded_is_proven_empty(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents it from stopping those behind it."""
    scripted.rows = []
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert found.spans == [found.span]
    assert (found.final, walk.calls < 10) == ({}, True)


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), "", "abc", "-1", [1], {"a": 1}, "1e99", True, 10**30]
)
@pytest.mark.parametrize("column", [0, 4, 5])
def test_a_bad_value_costs_its_row(scripted: Scripted, tmp_path: Path, value: object, column: int) -> None:
    """Prevents one NaN from costing a page, and a row without a close from becoming an empty minute."""
    struck = scripted.rows[700]
    bucket = struck[0] * 1000
    scripted.rows[700] = [*struck[:column], value, *struck[column + 1 :]]
    if column == 0:
        scripted.script = lambda rows, start, limit: [row for n, row in enumerate(rows) if n == 700 or row[0] >= start][
            :limit
        ]
    found = Found(scripted, tmp_path)
    walk = found.walk()
    scripted.rows[700] = struck
    assert found.letters
    assert [*walk.refused_rows(), *found.book.aside.named()]
    assert bucket not in found.final
    assert not common(found.spans, [(bucket, bucket + MIN)])
    assert found.lies() == []
    if column:
        assert len(found.truth()) - len(found.final) == 1
        assert {one.bucket_us for one in found.letters} == {bucket}


@pytest.mark.parametrize("odd", [None, [], {}, "row", [1, 2], 7, [None] * 12, ["1", "2", "3", "4", "5", "6"]], ids=repr)
def test_a_row_of_another_shape_costs_itself(scripted: Scripted, tmp_path: Path, odd: object) -> None:
    """Prevents one odd element from refusing a page; beside it nothing is proven to be empty."""
    scripted.script = lambda rows, start, limit: [odd, *first_from(rows, start, limit)]
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert {b: values[4] for b, values in found.final.items()} == found.truth()
    assert found.letters
    assert walk.refused_rows()


@pytest.mark.parametrize("off_ms", [1, 30_000, 59_999])
def test_buckets_beside_the_grid_are_refused(scripted: Scripted, tmp_path: Path, off_ms: int) -> None:
    """Prevents a minute that begins at half past from standing between two others."""
    for row in scripted.rows[600:640]:
        row[0] += off_ms
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert {one.reason for one in found.letters} == {"bucket"}
    assert len(found.letters) >= 40
    assert [text.split(": ", 1)[1] for text in found.book.aside.named()] == [
        f"refused rows, begins {off_ms / 1000:g} s after a multiple of the width"
    ]
    assert walk.refused_rows() == []  # named already
    assert sum(b - a for a, b in found.spans) == found.span[1] - found.span[0] - 40 * MIN
    assert all(bucket % MIN == 0 for bucket in found.final)


def test_a_row_that_comes_right_is_final_after_two_more_looks(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents a glitch of one answer from needing somebody's help."""

    def glitch(rows: list[list[Any]], start: int, limit: int) -> Any:
        found = [row.copy() for row in first_from(rows, start, limit)]
        if scripted.calls == 1:
            found[500][5] = None
        return found

    scripted.script = glitch
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert found.spans == [found.span]
    assert walk.refused_rows() == []


def test_two_different_candles_of_one_minute_are_none(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents the order of two rows from deciding what is true."""
    again = [*scripted.rows[700][:5], "99", *scripted.rows[700][6:]]
    scripted.script = lambda rows, start, limit: [*first_from(rows, start, limit), again]
    found = Found(scripted, tmp_path)
    found.walk()
    assert again[0] * 1000 not in found.final
    assert {one.reason for one in found.letters} == {"twice"}


def test_answers_that_differ_are_not_final(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents the first look from being kept: volume 10 just after the close, 12.5 half a minute later."""

    def grows(rows: list[list[Any]], start: int, limit: int) -> Any:
        return [[*row[:5], str(scripted.calls), *row[6:]] for row in first_from(rows, start, limit)]

    scripted.script = grows
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert (found.final, found.spans) == ({}, [])
    assert any("differ" in text for text in found.book.aside.named())
    assert walk.calls < 20


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b'{"msg":"maintenance"}', b"<html>", b"[" * 100_000, b"7", b'{"data":null}', b'"x"']
)
def test_an_answer_that_is_none_is_not_an_empty_one(scripted: Scripted, tmp_path: Path, body: bytes) -> None:
    """Prevents a page of maintenance from proving that nothing was traded."""
    scripted.script = lambda rows, start, limit: body
    found = Found(scripted, tmp_path)
    found.exchange._attempts = 1
    with pytest.raises(Unavailable):
        found.exchange.candles("BTC-USD", 60, T0, 9)


def test_volumes_with_the_noise_of_a_float_are_rounded(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents 0.0007600000000000001 from being refused, as a number and as a text."""
    for n, row in enumerate(scripted.rows):
        row[5] = 0.0007600000000000001 if n % 2 else "0.0007600000000000001"
    found = Found(scripted, tmp_path)
    found.walk()
    assert {Decimal(values[4]) for values in found.final.values()} == {Decimal("0.00076")}
    assert found.spans == [found.span]


@pytest.mark.parametrize(
    ("text", "unit", "made"),
    [
        ("0.0007600000000000001", None, "0.00076"),
        ("0.0007600000000000001", "1e-8", "0.00076"),
        ("1.0860400000000001", "1e-5", "1.08604"),
        ("12345.678900000001", "1e-8", "12345.6789"),
        ("1234.56999999999", "0.01", "1234.57"),
        ("64000.123", "0.01", "64000.123"),
        ("0.123456789012345678", "1e-8", "0.123456789012345678"),
        ("0.1234567890123456789", None, "0.123456789012345679"),
        ("1e-30", None, "0"),
        ("1E+3", None, "1000"),
        ("0.30000000000000004", None, "0.3"),
        ("-1.50", None, "-1.5"),
        ("0", None, "0"),
    ],
)
def test_noise_is_taken_out_and_digits_are_kept(text: str, unit: str | None, made: str) -> None:
    """Prevents a price of an older, finer step from being rounded to today's."""
    assert Decimal(without_noise(text, unit and Decimal(unit))) == Decimal(made)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["nan", "1e999", "", " 1", "1_000", None, True, [], "9" * 17, "0." + "1" * 200, "٣"])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(BadData):
        without_noise(value)


def test_a_look_needs_its_time_after_the_close() -> None:
    """Prevents a minute from being final while trades of it still come in."""
    memory = Memory(MIN, 60_000_000)
    rows = {T0: FLAT}
    assert memory.add(Look(T0 + MIN + 3_000_000, [(T0, T0 + MIN)], rows)) == []
    assert memory.add(Look(T0 + MIN + 59_000_000, [(T0, T0 + MIN)], rows)) == []
    assert memory.add(Look(T0 + MIN + 60_000_000, [(T0, T0 + MIN)], {T0: (*FLAT[:4], "2")})) == []
    assert memory.add(Look(T0 + MIN + 61_000_000, [(T0, T0 + MIN)], {T0: (*FLAT[:4], "2.00")})) == [(T0, T0 + MIN)]
    assert (memory.spans, memory.rows) == ([], {})


def test_a_look_at_a_running_candle_is_none() -> None:
    """Prevents a look before the close from being one of the two."""
    memory = Memory(MIN, 0)
    for second in (10, 20, 30):
        assert memory.add(Look(T0 + second * 1_000_000, [(T0, T0 + MIN)], {T0: FLAT})) == []
    assert memory.spans == []


def test_an_empty_answer_proves_nothing_of_the_last_minutes() -> None:
    """Prevents a minute whose candle comes late from being called empty."""
    look = look_of(Answer(Rows(), T0), T0 - 10 * MIN, 20, MIN)
    assert look.spans == [(T0 - 10 * MIN, T0 - 2 * MIN)]


def test_hours_agree_with_their_minutes_or_not() -> None:
    """Prevents an hour that misses a trade from confirming its minutes."""
    hour = 60 * MIN
    begin = floor_us(T0, hour) - 5 * hour
    memory = Memory(MIN, MIN)
    rows = {begin + n * MIN: ("100", str(101 + n % 3), "99", str(100 + n % 2), "0.5") for n in range(180)}
    memory.add(Look(T0, [(begin, begin + 3 * hour)], dict(rows)))
    right: Values = ("100", "103", "99", "101", "30.0")
    coarse = Look(T0, [(begin, begin + 3 * hour)], {begin: right, begin + hour: right})
    assert memory.agreeing(coarse, hour) == ([(begin, begin + 2 * hour)], 1)
    coarse.rows[begin] = (*right[:4], "30.1")
    assert memory.agreeing(coarse, hour) == ([(begin + hour, begin + 2 * hour)], 2)


def test_the_coarser_width_fits() -> None:
    offered = [60, 180, 300, 900, 1800, 3600, 7200, 14_400, 86_400, 604_800, 2_592_000]
    widths = [coarse_us(s * 1_000_000, offered) for s in (60, 300, 900, 3600, 86_400)]
    assert widths == [3600 * 10**6, 14_400 * 10**6, 14_400 * 10**6, 86_400 * 10**6, None]


def test_weeks_begin_on_mondays() -> None:
    monday = 1_764_547_200_000_000  # 2025-12-01
    assert floor_us(monday + 3 * 86_400_000_000, 604_800_000_000) == monday
    rows = read_rows([([monday // 1000, "1", "1", "1", "1", "1"], None)], 604_800_000_000, Units())
    assert (len(rows.good), rows.refused) == (1, [])


def test_a_clock_that_is_slower_decides(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents our fast clock from calling a candle closed that runs, and a wrong one from being believed."""
    found = Found(scripted, tmp_path)
    monkeypatch.setattr("producers.exchange_candles.exchange.now_us", lambda: now_us() + 120_000_000)
    answer = found.exchange.candles("BTC-USD", 60, found.span[0], 5)
    assert abs(answer.at_us - now_us()) < 5_000_000
    assert abs(found.exchange.now_us() - now_us()) < 5_000_000
    monkeypatch.setattr("producers.exchange_candles.exchange.now_us", lambda: now_us() + 7_200_000_000)
    monkeypatch.setattr(found.exchange, "_attempts", 1)
    with pytest.raises(WrongAnswer, match="behind ours"):
        found.exchange.candles("BTC-USD", 60, found.span[0], 5)

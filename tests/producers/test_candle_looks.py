"""What answers of exchanges prove. A scripted exchange behind real HTTP is asked by ccxt, as any exchange is."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import Unavailable, WrongAnswer
from pipeline.core.runtime import now_us
from producers.exchange_candles.ccxt_source import CcxtSource
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.intervals import without
from producers.exchange_candles.looks import QUIET_US, Answer, Look, Memory, look_of
from producers.exchange_candles.pages import coarse_us
from producers.exchange_candles.rows import Rows, Values, floor_us
from producers.exchange_candles.walk import MARGINS
from tests.scripted_exchange import (
    FLAT,
    HONEST,
    HOPELESS,
    MIN,
    T0,
    Found,
    Script,
    Scripted,
    all_of_window,
    few,
    first_from,
    newest_before_end,
    one_too_few,
    upside_down,
)
from venues.rest.client import THROTTLED_S

THIN = [first_from, one_too_few, upside_down, few, all_of_window, newest_before_end]


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


@pytest.mark.parametrize("script", THIN, ids=lambda script: script.__name__)
def test_minutes_without_a_trade_are_proven_and_not_asked_for_ever(
    scripted: Scripted, tmp_path: Path, script: Script
) -> None:
    """Prevents an endless search, also where the first hours, and the last, are empty: a pair that began later."""
    del scripted.rows[-200:-15], scripted.rows[300:330], scripted.rows[:400:3]
    scripted.script = script
    found = Found(scripted, tmp_path)
    found.exchange.page_size = 120  # the longest silence is longer
    scripted.rows = [row for row in scripted.rows if row[0] * 1000 >= found.span[0] + 200 * MIN]
    found.walk()
    assert found.lies() == []
    assert found.spans == [found.span], found.book.aside.named()


@pytest.mark.parametrize("script", [s for s in THIN if s is not one_too_few], ids=lambda script: script.__name__)
def test_a_silent_end_is_proven(scripted: Scripted, tmp_path: Path, script: Script) -> None:
    """Prevents a weekend, or a thin pair's last hour, from being a problem until somebody trades again."""
    scripted.script = script
    found = Found(scripted, tmp_path)
    scripted.rows = [row for row in scripted.rows if row[0] * 1000 < found.span[1] - 60 * MIN]
    found.walk()
    end = floor_us(found.exchange.now_us() - QUIET_US, MIN)
    assert [(found.span[0], end - MIN)] <= found.spans <= [(found.span[0], end)]
    assert found.lies() == []
    assert found.book.aside.named() == []
    assert scripted.calls <= (90 if script is few else 14)


def test_a_pair_that_never_traded_is_proven_empty(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents it from stopping those behind it."""
    scripted.rows = []
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert (found.span[0], floor_us(found.exchange.now_us() - QUIET_US, MIN)) in found.spans
    assert (found.final, walk.calls < 10) == ({}, True)


def test_candles_that_come_late_are_not_called_empty(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents minutes from being lost for ever because an exchange's candles were behind its trades for a while: both
    looks at them may have been in the same second."""
    now_ms = scripted.rows[-1][0]
    scripted.script = lambda rows, start, limit: first_from(
        [row for row in rows if row[0] < now_ms - 9 * 60_000], start, limit
    )
    found = Found(scripted, tmp_path)
    found.walk()
    assert (found.lies(), found.book.aside.named()) == ([], [])
    scripted.script = first_from
    found.walk()
    assert (found.lies(), found.spans) == ([], [found.span])


def test_a_few_minutes_with_trades_teach_no_smaller_page(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents a thin pair from making the pages of all pairs of its exchange smaller and smaller: an answer that
    reaches the end of its window is whole, however few trades there were."""
    scripted.script = all_of_window
    found = Found(scripted, tmp_path)
    whole = found.exchange.page_size
    edge = found.span[0] // 1000 + (whole - MARGINS) * 60_000  # the first page ends here
    ends = {found.span[0] // 1000, edge - 60_000, edge}
    scripted.rows = [row for n, row in enumerate(scripted.rows) if n % 7 == 0 or row[0] in ends or row[0] > edge]
    found.walk()
    assert found.exchange.page_size == whole
    assert (found.lies(), found.spans) == ([], [found.span])


@pytest.mark.parametrize("script", THIN, ids=lambda script: script.__name__)
@pytest.mark.parametrize("silent", [5, 40, 90])
def test_a_span_may_begin_in_a_silence(scripted: Scripted, tmp_path: Path, script: Script, silent: int) -> None:
    """Prevents a thin pair from failing in every run, because nothing was traded where its back-fill begins."""
    scripted.script = script
    found = Found(scripted, tmp_path, minutes=300)
    begin = found.span[0] // 60_000_000
    quiet = range(begin - silent, begin + silent)
    scripted.rows = [row for row in scripted.rows if row[0] // 60_000 not in quiet and row[0] // 60_000 % 9]
    found.walk()
    assert (found.lies(), found.book.aside.named()) == ([], [])
    assert found.spans == [found.span]


def test_no_answer_is_asked_for_more_than_a_page(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an exchange that refuses such a request from costing a pair that began later than the back-fill."""
    found = Found(scripted, tmp_path)
    found.exchange.page_size = 300
    scripted.rows = [row for row in scripted.rows if row[0] * 1000 >= found.span[0] + 700 * MIN]
    asked: list[int] = []
    fetch = found.exchange.source.fetch
    monkeypatch.setattr(found.exchange.source, "fetch", lambda *ask: (asked.append(ask[3]), fetch(*ask))[1])
    found.walk()
    assert max(asked) <= 300
    assert (found.lies(), found.spans) == ([], [found.span])


def test_whoever_asks_for_a_pause_gets_it(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a ban: requests went on a second after an exchange had asked for a minute without any."""
    found = Found(scripted, tmp_path)
    held: list[float] = []
    monkeypatch.setattr(found.exchange._limit, "hold", held.append)
    scripted.refusals = [(429, {"Retry-After": "60"}), (418, {})]
    found.exchange.candles("BTC-USD", 60, found.span[0], 5)
    assert held == [60.0, THROTTLED_S]


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
    look = look_of(Answer(Rows(), T0), T0 - 20 * MIN, 30, MIN)
    assert look.spans == [(T0 - 20 * MIN, T0 - QUIET_US)]


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


def test_a_slow_answer_is_as_old_as_its_date_and_its_way_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a minute that an exchange, 40 s behind us, was still filling from being final."""
    exchange = Exchange("kraken", threading.Event(), tmp_path)
    source = exchange.source
    assert isinstance(source, CcxtSource)
    clock_s = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])
    asked_us, took_s, behind_s = 1_795_000_000_000_000, 50, 40

    def fetch(*_: object, **__: object) -> list[list[object]]:
        clock_s[0] += took_s
        sent_at = asked_us / 1e6 - behind_s + took_s  # by the exchange's clock, later than when we asked
        source.api.last_response_headers = {"Date": formatdate(sent_at, usegmt=True)}
        source.api.last_json_response = []
        return []

    monkeypatch.setattr(source.api, "fetch_ohlcv", fetch)
    monkeypatch.setattr("producers.exchange_candles.exchange.now_us", lambda: asked_us)
    monkeypatch.setattr("producers.exchange_candles.exchange.abandonable", lambda call, *_: call())
    monkeypatch.setattr(exchange._limit, "wait", lambda _: None)
    answer = exchange.candles("BTC-USD", 60, asked_us - 600_000_000, 10)
    assert answer.at_us == asked_us - behind_s * 1_000_000
    assert exchange.now_us() == answer.at_us

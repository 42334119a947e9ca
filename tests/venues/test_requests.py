"""Requests to venues: never faster than all processes together may, never a wrong answer taken for a right one."""

from __future__ import annotations

import inspect
import shutil
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.core.errors import PipelineError, Refused, Throttled, Unavailable, WrongAnswer, WrongUse
from pipeline.core.stopping import Stopped
from schemas.records import TradeRow
from simulator.testing import Simulator, running_simulator
from venues.kraken.rest import KrakenRest
from venues.kraken.settings import KrakenSettings
from venues.rest.client import Client, check, mapped
from venues.rest.page import BadRow, Page
from venues.rest.rate_limit import MARGIN, RateLimit
from venues.rest.venue_rest import TradesRest

ASKER = """
import sys, threading, time
from pathlib import Path
from venues.kraken.rest import KrakenRest
from venues.rest.rate_limit import RateLimit
limit = RateLimit(Path(sys.argv[1]), "venue-x", float(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    limit.wait(threading.Event())
    print(time.monotonic(), flush=True)
"""


def test_several_processes_share_one_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKER, str(tmp_path), "20", "8"]
    askers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    moments = sorted(float(line) for asker in askers for line in asker.communicate()[0].split())
    assert len(moments) == 24
    # A process may wake up late, which moves two moments together; the whole run can only be longer.
    assert moments[-1] - moments[0] >= 23 * 0.9 / 20


def test_a_process_killed_in_its_turn_blocks_nobody(tmp_path: Path) -> None:
    asker = subprocess.Popen([sys.executable, "-c", ASKER, str(tmp_path), "50", "1000"], stdout=subprocess.PIPE)
    assert asker.stdout
    asker.stdout.readline()
    asker.kill()
    asker.wait()
    asker.stdout.close()
    assert RateLimit(tmp_path, "venue-x", 50).wait(threading.Event()) < 1.0


@pytest.mark.parametrize("content", [b"", b"xx", *(struct.pack("<d", free) for free in (1e18, float("nan"), -5e9))])
def test_a_damaged_file_means_no_wait(tmp_path: Path, content: bytes) -> None:
    limit = RateLimit(tmp_path, "venue-x", 1)
    limit.wait(threading.Event())
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:8] * (len(content) == 8) + content)  # of this boot
    assert limit.wait(threading.Event()) == 0.0


def test_a_pause_from_before_a_reboot_means_no_wait(tmp_path: Path) -> None:
    """Prevents a pause by a clock that began anew: it may be any time ahead."""
    limit = RateLimit(tmp_path, "venue-x", 1)
    limit.hold(3600)
    file = next(tmp_path.iterdir())
    file.write_bytes(struct.pack("<d", 12345.0) + file.read_bytes()[8:])
    assert limit.wait(threading.Event()) == 0.0


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_a_folder_that_is_deleted_meanwhile_ends_nothing(tmp_path: Path) -> None:
    """A deleted STATE_DIR ended the thread that asked next."""
    limit = RateLimit(tmp_path / "state", "venue-x", 100)
    shutil.rmtree(tmp_path / "state")
    limit.wait(threading.Event())
    assert RateLimit(tmp_path / "state", "venue-x", 0.1).wait(threading.Event()) < 1.0


def test_hold_keeps_everybody_away(tmp_path: Path) -> None:
    RateLimit(tmp_path, "venue-x", 100).hold(30)
    with pytest.raises(Stopped):
        RateLimit(tmp_path, "venue-x", 100).wait(_set())
    assert RateLimit(tmp_path, "venue-y", 100).wait(threading.Event()) == 0.0


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongUse, match="STATE_DIR"):
        RateLimit(tmp_path / "file" / "below", "venue-x", 1)


def test_every_exception_of_requests_has_a_reaction() -> None:
    """One that is forgotten would end a producer."""
    found = [
        kind
        for _, kind in inspect.getmembers(requests.exceptions, inspect.isclass)
        if issubclass(kind, requests.RequestException) and kind is not requests.exceptions.JSONDecodeError
    ]
    assert len(found) > 15
    retryable = {kind.__name__ for kind in found if mapped("u", kind()).retryable}
    assert {
        "ConnectionError",
        "SSLError",
        "ReadTimeout",
        "ConnectTimeout",
        "ProxyError",
        "ChunkedEncodingError",
    } <= retryable
    assert not {"InvalidURL", "MissingSchema", "InvalidSchema"} & retryable
    assert all(isinstance(mapped("u", kind()), PipelineError) for kind in found)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (429, {"Retry-After": "7"}, b"", Throttled),
        (500, {}, b"{}", Unavailable),
        (520, {}, b"<html>", Unavailable),
        (408, {}, b"", Unavailable),
        (403, {"Content-Type": "text/html"}, b"<html>", Unavailable),
        (403, {}, b'{"message":"no"}', Refused),
        (404, {}, b'{"message":"NotFound"}', Refused),
        (302, {}, b"", WrongAnswer),
        (200, {}, b"  <!DOCTYPE html>", WrongAnswer),
        (200, {"Content-Type": "text/html; charset=utf-8"}, b"{}", WrongAnswer),
        (200, {}, b"", WrongAnswer),
    ],
)
def test_what_is_no_answer(status: int, headers: dict[str, str], body: bytes, error: type[PipelineError]) -> None:
    with pytest.raises(error) as caught:
        check("u", status, headers, body)
    assert type(caught.value) is error


def test_patience_asked_for_is_understood() -> None:
    for text, least, most in (("7", 7, 7), (formatdate(time.time() + 60, usegmt=True), 55, 61), ("soon", None, None)):
        with pytest.raises(Throttled) as caught:
            check("u", 429, {"Retry-After": text}, b"")
        wish = caught.value.retry_after_s
        assert wish is None if least is None else least <= (wish or 0) <= (most or 0)


def test_patience_until_a_time_is_by_the_clock_of_whoever_asks_for_it() -> None:
    """Prevents a pause of days because our own clock is wrong."""
    at = time.time() + 31 * 86_400
    with pytest.raises(Throttled) as caught:
        check("u", 429, {"Retry-After": formatdate(at + 60, usegmt=True), "Date": formatdate(at, usegmt=True)}, b"")
    assert caught.value.retry_after_s == 60.0


class Says:
    """A session that gives the same answer to everything, and counts."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"[]") -> None:
        self.answer = types.SimpleNamespace(status_code=status, headers=headers, content=body)
        self.asked = 0

    def get(self, *_args: Any, **_more: Any) -> Any:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize("seconds", ["3600", "86400"])
def test_a_venue_is_not_asked_again_before_it_says(tmp_path: Path, seconds: str) -> None:
    """Prevents a ban that grows, because the venue was asked every five minutes during it (Binance: 418, up to three
    days)."""
    stop = threading.Event()
    client = Client("x", "http://127.0.0.1:1", stop, attempts=3)
    said = client._session = Says(418, {"Retry-After": seconds})  # type: ignore[assignment]
    limit = RateLimit(tmp_path, "x", 100)
    waits: list[float] = []

    def wait(timeout: float) -> bool:
        waits.append(timeout)
        return timeout > 60.0  # what a program does that is stopped meanwhile

    stop.wait = wait  # type: ignore[assignment,method-assign]
    with pytest.raises(Stopped):
        client.get("y", {}, limit, lambda answer: answer)
    assert said.asked == 1
    assert max(waits) > float(seconds) - 60.0


def test_an_answer_that_a_cache_kept_says_nothing_of_now(tmp_path: Path) -> None:
    """Prevents a claim about now, and a second look that is the first one, by an answer out of a cache, which says so:
    only what hardly ever changes may be old."""
    rest = KrakenRest(KrakenSettings(rest_rate=1000), tmp_path, threading.Event(), attempts=1)
    rest._client._session = Says(200, {"Age": "240"})  # type: ignore[assignment]
    with pytest.raises(WrongAnswer, match="240 s old"):
        rest.get("Trades", {}, lambda answer: answer.body)
    assert rest.get("AssetPairs", {}, lambda answer: answer.body, may_be_old=True) == b"[]"
    rest._client._session = Says(200, {"Age": "3"})  # type: ignore[assignment]
    assert rest.get("Trades", {}, lambda answer: answer.body) == b"[]"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=3) as running:
        yield running


@pytest.mark.parametrize("fault", ["429", "5xx", "html", "empty", "truncated-body", "wrong-length", "rate-limit"])
def test_a_fault_of_rest_is_retried_until_it_is_over(simulator: Simulator, tmp_path: Path, fault: str) -> None:
    settings = KrakenSettings(rest_url=simulator.environment()["KRAKEN_REST_URL"], rest_rate=3)
    rest = KrakenRest(settings, tmp_path, threading.Event())
    simulator.fault(fault, "kraken", count=1)
    page, _ = rest.page("BTC-USD", None)
    assert len(page.ids) == 1000
    assert simulator.faults()["struck"][f"kraken/{fault}"] >= 1


def test_an_unknown_pair_is_not_asked_for_again(simulator: Simulator, tmp_path: Path) -> None:
    rest = KrakenRest(KrakenSettings(rest_url=simulator.environment()["KRAKEN_REST_URL"]), tmp_path, threading.Event())
    simulator.reset_stats()
    with pytest.raises(Refused, match="Unknown asset pair"):
        rest.page("NOPE-USD", None)
    assert simulator.stats()["totals"]["kraken"]["requests"] == 1


def test_a_venue_that_is_not_there_is_given_up_after_the_attempts_and_at_once_when_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    client = Client("x", "http://127.0.0.1:1", stop, attempts=2)
    limit = RateLimit(tmp_path, "x", 100 * MARGIN)
    with pytest.raises(Unavailable):
        client.get("y", {}, limit, lambda answer: answer)
    stop.set()
    with pytest.raises(Stopped):
        client.get("y", {}, limit, lambda answer: answer)


class Newest(TradesRest):
    """A venue that shows one page."""

    venue = title = "kraken"

    def __init__(self, page: Page) -> None:
        self._page = page

    def newest(self, product_id: str, count: int) -> Page:
        return self._page


def test_a_row_that_cannot_be_stored_is_not_the_newest_trade() -> None:
    """Prevents a malformed row with a wrong id from making all ids up to it missing, and one page of such rows from
    saying that a product has never traded."""
    rows = [TradeRow(trade_id, 1786309548167634, "1", "1", "buy") for trade_id in (6, 7)]
    bad = [BadRow(1_000_007, "price", "the price is zero", b"{}")]
    assert Newest(Page(rows, bad)).newest_trade("BTC-USD") == 7
    for page in (Page([], bad), Page([], blurred=True)):
        with pytest.raises(Unavailable, match="can be stored"):
            Newest(page).newest_trade("BTC-USD")
    with pytest.raises(Refused):
        Newest(Page([])).newest_trade("BTC-USD")

"""What is asked for and kept: instruments, closed hours, the plan, the cache, the rate."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Unavailable, WrongUse
from pipeline.core.moments import moment_us, whole_hour_us
from pipeline.core.runtime import now_us
from pipeline.core.times import HOUR_US
from pipeline.database.ledger import Hour
from producers.dukascopy.calendar import closed
from producers.dukascopy.command import Request
from producers.dukascopy.feeds import bi5
from producers.dukascopy.feeds import json as jetta
from producers.dukascopy.feeds.cache import Cache
from producers.dukascopy.feeds.folder import FolderFeed
from producers.dukascopy.feeds.limiter import AdaptiveLimit
from producers.dukascopy.feeds.network import Bi5Feed, JsonFeed
from producers.dukascopy.feeds.web import Web
from producers.dukascopy.instruments import catalogue, chosen
from producers.dukascopy.plan import Rules, make_plan
from tests.dukascopy_help import recorded, us


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["EURNOK", "eur-nok", "EUR/NOK"])
def test_an_instruments_file_in_any_encoding_and_spelling(tmp_path: Path, encoding: str, name: str) -> None:
    """A file that an editor saved its own way, refused with a stack trace or taken for nothing."""
    own = tmp_path / "own.json"
    own.write_bytes(f'{{"{name}": {{"asset_class": "forex", "price_scale": 5}}}}'.encode(encoding))
    (found,) = chosen(["eur/nok"], catalogue(own))
    assert (found.symbol, found.code, found.product_id) == ("EURNOK", "EUR-NOK", "EUR-NOK")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"Ä": 1}'.encode("latin-1"), "save it as UTF-8"),
        (b"", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "must be a JSON object"),
        (b'{"EURNOK": 5}', "EURNOK"),
        (b'{"": {}}', "own.json"),
        (b"\0\xff", "own.json"),
        (b'{"EURNOK": {"asset_class": "x", "price_scale": -1}}', "asset_class.*\n.*price_scale"),
    ],
)
def test_an_instruments_file_that_is_none_is_explained(tmp_path: Path, content: bytes, said: str) -> None:
    """A stack trace, or one mistake told at a time."""
    own = tmp_path / "own.json"
    own.write_bytes(content)
    with pytest.raises(WrongUse, match=said):
        catalogue(own)


def test_a_wrong_scale_is_noticed_and_unknown_instruments_are_explained(tmp_path: Path) -> None:
    """A year of prices wrong by ten; a typing error that ends in a stack trace."""
    quotes = bi5.parse_hour(recorded("bi5/EURUSD/2019/01/04/00h_ticks.bi5"))
    catalogue()["EURUSD"].check_price(quotes)
    own = tmp_path / "own.json"
    own.write_text('{"EURUSD": {"asset_class": "forex", "price_scale": 4, "band": ["0.5", "2"]}}')
    with pytest.raises(BadData, match=r"11\.4.*DUKASCOPY_INSTRUMENTS_FILE"):
        catalogue(own)["EURUSD"].check_price(quotes)
    with pytest.raises(WrongUse, match=r'"EURUDS": {"asset_class": CLASS, "price_scale": N}'):
        chosen(["EURUDS"], catalogue())  # no number that is only a guess: it would be copied
    with pytest.raises(WrongUse, match=r"did you mean EURUSD.*DUKASCOPY_INSTRUMENTS_FILE"):
        chosen(["EURUDS"], catalogue())
    own.write_text('{"EURUSD": {"asset_class": "forex", "price_scal": 4}}')
    with pytest.raises(WrongUse, match="EURUSD: price_scal"):
        catalogue(own)


@pytest.mark.parametrize(
    ("symbol", "hour", "shut"),
    [
        ("EURUSD", "2019-02-01T21", False),  # Friday 16:00 New York
        ("EURUSD", "2019-02-01T22", False),  # 17:00: the edge is asked
        ("EURUSD", "2019-02-01T23", True),
        ("EURUSD", "2019-02-03T20", True),
        ("EURUSD", "2019-02-03T21", False),  # Sunday 16:00: a quote has been seen there
        ("EURUSD", "2019-07-05T22", True),  # summer time: an hour earlier
        ("EURUSD", "2019-07-07T19", True),
        ("EURUSD", "2019-07-07T20", False),
        ("BTCUSD", "2019-02-02T12", False),
        ("AAPLUSUSD", "2019-02-04T04", True),
        ("AAPLUSUSD", "2019-02-04T15", False),
    ],
)
def test_closed_hours(symbol: str, hour: str, shut: bool) -> None:
    """Calls for hours that cannot have quotes; or worse, quotes never asked for."""
    assert closed(catalogue()[symbol], us(hour)) is shut


def test_a_share_of_another_country_is_asked_for_in_the_night_of_new_york(tmp_path: Path) -> None:
    """Prevents the trading hours of a German share from being stored as closed without a request."""
    own = tmp_path / "own.json"
    share = '{"asset_class": "stock", "price_scale": 3, "code": "SAP.DE-EUR"'
    own.write_text(f'{{"SAPDEEUR": {share}}}, "BMWDEEUR": {share}, "session": "us_stock"}}}}')
    hour = us("2024-05-14T08")
    assert [closed(catalogue(own)[name], hour) for name in ("SAPDEEUR", "BMWDEEUR")] == [False, True]


def test_a_plan_asks_only_for_what_the_ledger_does_not_account_for(tmp_path: Path) -> None:
    """Hours asked twice, or never again."""
    instrument, now = catalogue()["BTCUSD"], us("2023-02-20T12")
    states = ["present", "confirmed_empty", "closed", "partial", "seen_empty", "seen_empty", None]
    hours = [now - (20 - i) * HOUR_US for i in range(len(states))]
    old, young = now - 700 * 10**6, now - 100 * 10**6
    ledger = {
        hour: Hour(hour, state, 0, "json", young if i == 5 else old, 0, 0)
        for i, (hour, state) in enumerate(zip(hours, states, strict=True))
        if state
    }

    class Network(FolderFeed):
        free, running = False, True

    span = range(hours[0], now + 2 * HOUR_US, HOUR_US)
    plan = make_plan(instrument, Network(tmp_path), span, ledger, Rules(now, 600 * 10**6), {hours[6]: None})
    assert plan.accounted == set(hours[:3])
    assert plan.ask[:2] == hours[3:5]
    assert plan.waiting[hours[5]].next_try_us == young + 600 * 10**6
    assert hours[6] not in plan.ask  # dealt with in this run
    assert plan.running == [now - HOUR_US, now]  # finished less than five minutes ago, and running
    assert list(plan.waiting) == [hours[5], now + HOUR_US]


def test_moments() -> None:
    """A span that begins a day off."""
    now = us("2026-03-31T10") + 12_345_678
    assert whole_hour_us("2019-02-04", now, "--from") == us("2019-02-04")
    assert whole_hour_us("2019-02-04T12", now, "--from") == us("2019-02-04T12")
    assert whole_hour_us("2019-02-04T12:00:00+02:00", now, "--from") == us("2019-02-04T10")
    assert whole_hour_us("7_days_ago", now, "--from") == us("2026-03-24")
    assert whole_hour_us("1_month_ago", now, "--from") == us("2026-02-28")
    assert whole_hour_us("1_year_ago", now, "--from") == us("2025-03-31")
    assert whole_hour_us("now", now, "--to") == us("2026-03-31T10")
    for wrong in ("yesterday", "2019-02-30", "2019-02-04T12:30", "99999_years_ago"):
        with pytest.raises(WrongUse, match="--from"):
            whole_hour_us(wrong, now, "--from")
    assert moment_us("2019-02-04T12:30:00.25", now, "--from") == us("2019-02-04T12") + 1_800_250_000
    assert moment_us("now", now, "--to") == now


def test_another_scale_in_the_vendors_description_is_said(tmp_path: Path) -> None:
    """Prevents prices ten times too high in silence: the vendor's description is the second witness of the scale."""
    euro, cache = catalogue()["EURUSD"], Cache(tmp_path)
    body = b'{"priceScale": 4, "holidays": [{"from": 1000, "till": 2000}]}'
    cache.put("json", jetta.instrument_path(euro.code), body, now_us(), compress=True)
    limit = AdaptiveLimit(tmp_path, "json", max_rate=1.0, pause_s=0.0)
    feed = JsonFeed(
        Web("json", "http://127.0.0.1:1", limit, threading.Event()), cache
    )  # from the disk, nobody is asked
    with capture_logs() as lines:
        told = feed.described(euro)
    assert (told.price_scale, told.vendor_scale, told.holidays_ms) == (5, 4, ((1000, 2000),))
    (line,) = lines
    assert (line["event"], line["ours"], line["vendor"]) == (events.SCALE_DIFFERS, 5, 4)


def test_hours_before_the_vendors_first_tick_stay_missing(tmp_path: Path) -> None:
    """Prevents hours that were asked for from vanishing, neither missing nor mentioned, because one answer of the
    vendor names a later first tick."""
    first, day = us("2024-05-14T12"), range(us("2024-05-14"), us("2024-05-15"), HOUR_US)
    dow = replace(catalogue()["EURUSD"], first_tick_us=None)
    cache, body = Cache(tmp_path), b'{"priceScale": 5, "histories": [{"period": "TICK", "from": %d}]}' % (first // 1000)
    cache.put("json", jetta.instrument_path(dow.code), body, now_us(), compress=True)
    limit = AdaptiveLimit(tmp_path, "json", max_rate=1.0, pause_s=0.0)
    feed = JsonFeed(Web("json", "http://127.0.0.1:1", limit, threading.Event()), cache)
    told = feed.described(dow)
    assert Request("2024-05-14", "2024-05-15").span(told, now_us())[0] == day
    plan = make_plan(told, feed, day, {}, Rules(now_us(), 0), {})
    assert (list(plan.waiting), plan.ask) == (list(day[:12]), list(day[12:]))
    assert make_plan(told, feed, day, {}, Rules(now_us(), 0, refetch=True), {}).ask == list(day)
    ours = feed.described(replace(dow, first_tick_us=first))  # stated in the catalogue: not asked for
    assert Request("2024-05-14", "2024-05-15").span(ours, now_us())[0] == day[12:]


def test_bi5_is_not_read_at_a_scale_that_is_not_the_vendors() -> None:
    """Prevents prices a hundred times too small beside right ones: only the JSON feed says its scale in each answer."""
    euro, body = catalogue()["EURUSD"], recorded("bi5/EURUSD/2019/01/04/00h_ticks.bi5")
    feed = Bi5Feed.__new__(Bi5Feed)
    for scale in (None, 5):
        assert len(feed._parse(body, replace(euro, vendor_scale=scale), 0))
    with pytest.raises(BadData, match="3 decimals, ours 5") as caught:
        feed._parse(body, replace(euro, vendor_scale=3), 0)
    assert caught.value.reason == "scale"


def test_an_answer_to_refetch_replaces_the_one_on_disk(tmp_path: Path) -> None:
    """Prevents an old answer that comes back from the disk after the vendor corrected it and the database was lost."""
    kept, anew = Cache(tmp_path), Cache(tmp_path, read=False)
    kept.put("json", "a", b"old", 1_000_000, compress=True)
    assert (anew.get("json", "a"), anew.has("json", "a")) == (None, False)
    anew.put("json", "a", b"new", 2_000_000, compress=True)
    assert kept.get("json", "a") == (b"new", 2_000_000)


def test_a_damaged_cache_file_counts_as_not_there(tmp_path: Path) -> None:
    """Half a file, left by a full disk, stored as an hour."""
    cache = Cache(tmp_path)
    cache.put("bi5", "A/b", b"answer" * 100, us("2020-01-01"), compress=True)
    assert cache.get("bi5", "A/b") == (b"answer" * 100, us("2020-01-01"))
    file = next(tmp_path.rglob("*.z"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert cache.get("bi5", "A/b") is None
    assert Cache(None).get("bi5", "A/b") is None


def test_the_first_request_goes_at_the_rate_that_is_set(tmp_path: Path) -> None:
    """A vendor of one's own asked once a second; a vendor asked faster than its upper limit, or than it learned."""
    own = AdaptiveLimit(tmp_path, "own", max_rate=100.0, pause_s=0.0, start_rate=50.0)
    assert own.rate == 50.0
    own.failed(own.wait(threading.Event()))
    assert AdaptiveLimit(tmp_path, "own", max_rate=100.0, pause_s=0.0, start_rate=50.0).rate == pytest.approx(35.0)
    assert AdaptiveLimit(tmp_path, "slow", max_rate=5.0, pause_s=0.0, start_rate=50.0).rate == 5.0


def test_the_rate_falls_by_a_factor_once_per_event_and_is_shared(tmp_path: Path) -> None:
    """Four refused requests under way at once that bring the rate down four times; processes that do not share it."""
    limit = AdaptiveLimit(tmp_path, "x", max_rate=10.0, pause_s=0.0)
    for _ in range(60):
        limit.succeeded()
    assert limit.rate == pytest.approx(4.0)
    asked_at = limit.wait(threading.Event())
    for _ in range(4):
        limit.failed(asked_at)
    assert limit.rate == pytest.approx(2.8)
    other = AdaptiveLimit(tmp_path, "x", max_rate=10.0, pause_s=0.0)
    assert other.rate == pytest.approx(2.8)
    for _ in range(1000):
        other.succeeded()
    assert limit.rate == 10.0


@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder", "too much"])
def test_what_lies_under_a_files_name_in_a_folder_does_not_stop_the_load(tmp_path: Path, what: str) -> None:
    """Prevents: a load that waits for ever for a pipe, or reads a link to a device without end until memory is gone."""
    (instrument,) = chosen(["EURUSD"], catalogue())
    hour_us = us("2019-02-04T10:00")
    for path in (bi5.hour_path("EURUSD", hour_us), bi5.minutes_path("EURUSD", hour_us, "BID")):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if what == "a pipe":
            os.mkfifo(file)
        elif what == "a device":
            file.symlink_to("/dev/zero")
        elif what == "a folder":
            file.mkdir()
        else:
            with file.open("wb") as made:
                made.truncate(1 << 40)
    feed = FolderFeed(tmp_path)
    said = "too large" if what == "too much" else "cannot be read"
    with pytest.raises(Unavailable, match=said):  # a wrong answer is of that kind too
        feed.hour(instrument, hour_us)
    with pytest.raises(PipelineError, match=said):
        feed.minutes(instrument, hour_us, "BID")

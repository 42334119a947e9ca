"""When an answer without quotes makes an hour empty, and when it says nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.core.runtime import now_us
from pipeline.core.times import HOUR_US, from_us
from producers.dukascopy.calendar import busy_hours
from producers.dukascopy.feeds import bi5
from producers.dukascopy.instruments import catalogue
from simulator.testing import Simulator, running_simulator
from tests.dukascopy_help import counts, load, made_hours, rows, states, until, us, vendor, writer

Environment = Callable[..., dict[str, str]]
SPAN = ("--instruments", "BTCUSD", "--from", "2023-02-20T11", "--to", "2023-02-20T14")  # the first of three is empty


def _asked(simulator: Simulator) -> int:
    return int(simulator.stats()["totals"].get("dukascopy", {}).get("requests", 0))


@pytest.mark.parametrize("fault", ["404", "empty"])
def test_an_address_that_has_nothing_at_all_makes_no_hour_empty(
    env: Environment, database_url: str, fault: str
) -> None:
    """Prevents years of hours called empty, for ever, because the vendor moved and the old address answers 404."""
    with running_simulator(synthesize_hours=240) as simulator:
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0, DUKASCOPY_MAX_RATE=1000
        )
        simulator.fault(fault, "dukascopy", seconds=3600)
        for _ in range(2):  # two looks do not make it truer
            simulator.reset_stats()
            failed = load(environment, *SPAN)
            assert failed.returncode == 1, failed.stdout + failed.stderr
            assert (
                "3 hours missing from 2023-02-20 11:00: the bi5 feed returns no quotes even for hours" in failed.stderr
            )
            assert failed.stdout.count('"event": "feed.unproven"') == 1
            assert _asked(simulator) == 3 + 2  # two busy hours of the last days; nothing is stored yet
        assert states(database_url, "BTC-USD") == {}


def test_a_feed_that_shows_quotes_is_believed_and_not_asked_for_more(env: Environment, database_url: str) -> None:
    """Prevents hours that stay open for ever though the vendor is well, and calls for a proof that is there already."""
    with running_simulator(synthesize_hours=240) as simulator:
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0, DUKASCOPY_MAX_RATE=1000
        )
        with writer(environment):
            first = load(environment, *SPAN)
            assert first.returncode == 1, first.stdout + first.stderr
            assert states(database_url, "BTC-USD") == {"present": 2, "seen_empty": 1}
            assert _asked(simulator) == 3  # the two full hours are the proof
            simulator.reset_stats()
            second = load(environment, *SPAN)
            assert second.returncode == 0, second.stdout + second.stderr
            assert states(database_url, "BTC-USD") == {"present": 2, "confirmed_empty": 1}
            assert _asked(simulator) == 2  # the empty hour, and the newest stored one
            assert counts(database_url) == {"BTC-USD": 14_716}


def test_a_404_of_a_young_hour_is_not_final(env: Environment, database_url: str) -> None:
    """Prevents an hour called empty because it was published late (delays of an hour have been seen)."""
    hour_us = now_us() // HOUR_US * HOUR_US - 3 * HOUR_US
    span = [f"{from_us(moment):%Y-%m-%dT%H}" for moment in (hour_us - HOUR_US, hour_us + HOUR_US)]
    flags = ("--instruments", "BTCUSD", "--from", span[0], "--to", span[1])
    with running_simulator(synthesize_hours=240) as simulator:
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0, DUKASCOPY_MAX_RATE=1000
        )
        with writer(environment):
            simulator.fault("404", "dukascopy", endpoint=bi5.hour_path("BTCUSD", hour_us), seconds=3600)
            for _ in range(3):
                waiting = load(environment, *flags)
                assert waiting.returncode == 1, waiting.stdout + waiting.stderr
                assert "bi5 answers absent; needs a second look; next attempt" in waiting.stderr
                assert states(database_url, "BTC-USD") == {"present": 1, "seen_empty": 1}
            simulator.clear()
            done = load(environment, *flags)
            assert done.returncode == 0, done.stdout + done.stderr
            assert states(database_url, "BTC-USD") == {"present": 2}


def test_an_answer_that_a_cache_gives_again_is_no_second_look(env: Environment, database_url: str) -> None:
    """Prevents an hour that is empty for ever by one answer of the vendor, which a cache gave twice."""
    answers = made_hours("EURUSD", "EUR-USD", [us("2024-05-14T10")])
    span = ("--instruments", "EURUSD", "--from", "2024-05-14T10", "--to", "2024-05-14T12")
    with vendor(answers.get) as there:
        environment = env(**there.environment(), DUKASCOPY_FEED="json", DUKASCOPY_EMPTY_CONFIRM_SECONDS=2)
        there.kept_since = first = time.time()
        with writer(environment):
            assert load(environment, *span).returncode == 1
            until(lambda: time.time() > first + 2)
            assert load(environment, *span).returncode == 1
            assert states(database_url, "EUR-USD") == {"present": 1, "seen_empty": 1}
            there.kept_since = None
            until(lambda: time.time() > first + 4)  # it tells the time in whole seconds
            assert load(environment, *span).returncode == 0
            assert states(database_url, "EUR-USD") == {"present": 1, "confirmed_empty": 1}


def test_auto_changes_over_when_the_json_feed_has_nothing_at_all(env: Environment, database_url: str) -> None:
    """Prevents a load that comes to nothing because one of two feeds moved away, though the other works."""
    with running_simulator(synthesize_hours=240) as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="auto", DUKASCOPY_MAX_RATE=1000)
        with writer(environment):
            simulator.fault("404", "dukascopy", endpoint="/v1/", seconds=3600)
            done = load(environment, "--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-04T03")
            assert done.returncode == 0, done.stdout + done.stderr
            assert '"event": "feed.unproven"' in done.stdout
            assert '"event": "feed.switched"' in done.stdout
            assert states(database_url, "EUR-USD") == {"present": 3}
            assert rows(database_url, "SELECT DISTINCT feed FROM quote_hours") == [("bi5",)]


def test_busy_hours_are_hours_in_which_the_market_trades() -> None:
    """Prevents a feed that is not believed because it was asked for an hour without trading."""
    for instrument in catalogue().values():
        newest, older = (from_us(hour) for hour in busy_hours(instrument, us("2026-11-23T12"), 2))  # a Monday
        assert (f"{newest:%a %d %H}", f"{older:%a %d %H}") == ("Thu 19 15", "Wed 18 15")
    euro = catalogue()["EURUSD"]
    assert busy_hours(euro, us("2026-11-19T15"), 1) == [us("2026-11-18T15")]  # not over yet
    holiday = (us("2026-11-17") // 1000, us("2026-11-19") // 1000)
    assert busy_hours(replace(euro, holidays_ms=(holiday,)), us("2026-11-19T12"), 1) == [us("2026-11-12T15")]
    young = replace(euro, first_tick_us=us("2026-11-19"))
    assert busy_hours(young, us("2026-11-19T12"), 2) == []
    assert from_us(busy_hours(euro, us("2026-11-20"), 1)[0]) - from_us(us("2026-11-19")) == timedelta(hours=15)

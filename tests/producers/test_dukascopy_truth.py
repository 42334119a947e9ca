"""What is accounted for, and by whose clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pipeline.core.runtime import now_us
from pipeline.core.settings import PROJECT
from pipeline.core.times import HOUR_US, from_us
from pipeline.verify import verify
from producers.dukascopy.feeds import bi5
from simulator.testing import running_simulator
from tests.dukascopy_help import BI5, counts, load, made_hours, rows, states, us, vendor, warm, writer
from tests.venue_help import running, until

Environment = Callable[..., dict[str, str]]
MONTH_S = 31 * 86_400.0
SAVED = (
    "SELECT i.product_id, r.hours::text, r.follow_from FROM quote_requests r JOIN instruments i USING (instrument_id)"
)


def _text(hour_us: int) -> str:
    return f"{from_us(hour_us):%Y-%m-%dT%H}"


def _missing(url: str) -> int:
    return int(rows(url, "SELECT missing FROM completeness WHERE kind = 'quotes'")[0][0])


def test_an_hour_that_is_not_over_is_not_loaded(env: Environment, database_url: str) -> None:
    """Prevents an exit code of 0 and "100 %" about half an hour of quotes, because the load was told to bring all of
    an hour that is still running."""
    now = now_us() // HOUR_US * HOUR_US
    span = [_text(at) for at in (now - HOUR_US, now + HOUR_US)]
    with running_simulator(synthesize_hours=6) as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="json", DUKASCOPY_MAX_RATE=100)
        with writer(environment):
            done = load(environment, "--instruments", "BTCUSD", "--from", span[0], "--to", span[1])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the hour is not over; next attempt" in done.stderr
    assert states(database_url, "BTC-USD") == {"present": 1, "partial": 1}
    assert rows(database_url, "SELECT missing, share_complete::float FROM completeness") == [(1, 0.5)]
    with psycopg.connect(database_url, autocommit=True) as conn:
        (verdict,) = verify(conn)
    assert [text[:12] for text in verdict.wrong] == ["1 hours betw"]


def test_a_day_of_2019_beside_todays_hours_makes_nothing_missing(env: Environment, database_url: str) -> None:
    """Prevents seven years "missing" because somebody loaded a day of 2019 beside what runs."""
    now = now_us() // HOUR_US * HOUR_US
    recent = [now - hours * HOUR_US for hours in (30, 29, 28)]
    with vendor(made_hours("BTCUSD", "BTC-USD", recent, factor=10).get) as feed:
        environment = env(**feed.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=100)
        warm(environment, "bi5", 100)
        old = ("--instruments", "BTCUSD", "--feed", str(BI5), "--from", "2023-02-20T12", "--to", "2023-02-20T14")
        dry = load(environment, *old, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert rows(database_url, SAVED) == []
        with writer(environment):
            flags = ("--instruments", "BTCUSD", "--from", _text(recent[0]), "--to", _text(recent[-1] + HOUR_US))
            for one in (flags, old):
                done = load(environment, *one)
                assert done.returncode == 0, done.stdout + done.stderr
    assert states(database_url, "BTC-USD") == {"present": 5}
    assert _missing(database_url) == 0
    proof = subprocess.run(
        [sys.executable, "-m", "pipeline.verify"], env=environment, cwd=PROJECT, capture_output=True, text=True
    )
    assert proof.returncode == 0, proof.stdout + proof.stderr


def test_what_was_asked_for_and_not_had_is_missing_until_follow_has_brought_it(
    env: Environment, database_url: str, tmp_path: Path
) -> None:
    """Prevents hours that a load left open, and that nobody asks for again because they lie before DUKASCOPY_FROM."""
    now = now_us() // HOUR_US * HOUR_US
    first = now - 80 * HOUR_US
    hours = [first + i * HOUR_US for i in range(4)]
    answers: dict[str, bytes | None] = dict(made_hours("BTCUSD", "BTC-USD", range(first, now, HOUR_US), factor=10))
    lost = "bi5/" + bi5.hour_path("BTCUSD", hours[2])
    kept, answers[lost] = answers[lost], b"<html>"
    with vendor(answers.get) as feed:
        environment = env(
            **feed.environment(),
            DUKASCOPY_FEED="bi5",
            DUKASCOPY_MAX_RATE=100,
            DUKASCOPY_POLL_SECONDS=1,
            DUKASCOPY_RETRY_SECONDS=0.01,
        )
        warm(environment, "bi5", 100)
        with writer(environment):
            flags = ("--instruments", "BTCUSD", "--from", _text(first), "--to", _text(hours[-1] + HOUR_US))
            failed = load(environment, *flags)
            assert failed.returncode == 1, failed.stdout + failed.stderr
            assert _missing(database_url) == 1
            answers[lost] = kept
            follow = ("--follow", "--instruments", "BTCUSD", "--from", "6_hours_ago")
            with running("producers.dukascopy", environment, tmp_path, *follow) as process:
                until("the hour", lambda: states(database_url, "BTC-USD").get("present", 0) >= 4 + 5)
                until("nothing is missing", lambda: _missing(database_url) == 0)
                (saved,) = rows(database_url, SAVED)
                assert saved[-1] is not None
                until("the offset", lambda: process.health()[1]["clock_offset_s"] is not None)
                assert abs(process.metric("venue_clock_offset_seconds", '{venue="dukascopy"}')) < 60
                assert process.end() == 0


def _twice(env: Environment, database_url: str, hour_us: int, ahead_s: float) -> list[dict[str, int]]:
    """The states after two looks at an hour that the vendor has no file of, beside one that it has."""
    with vendor(made_hours("BTCUSD", "BTC-USD", [hour_us - HOUR_US], factor=10).get, ahead_s) as feed:
        environment = env(
            **feed.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=100, DUKASCOPY_EMPTY_CONFIRM_SECONDS=0
        )
        warm(environment, "bi5", 100)
        flags = ("--instruments", "BTCUSD", "--from", _text(hour_us - HOUR_US), "--to", _text(hour_us + HOUR_US))
        seen, said = [], ""
        with writer(environment):
            for _ in range(3):
                done = load(environment, *flags)
                seen.append(states(database_url, "BTC-USD"))
                said += done.stdout
        assert done.returncode == (0 if "confirmed_empty" in seen[-1] else 1), done.stdout + done.stderr
        if ahead_s:
            assert '"event": "venue.clock_offset"' in said
        return seen


def test_an_hour_that_is_old_by_our_clock_alone_is_not_called_empty(env: Environment, database_url: str) -> None:
    """Prevents the hours of today called empty for ever because our clock was 31 days ahead."""
    hour_us = now_us() // HOUR_US * HOUR_US - int(MONTH_S) * 10**6 - 3 * HOUR_US  # three hours ago, says the vendor
    seen = _twice(env, database_url, hour_us, -MONTH_S)
    assert seen == [{"present": 1, "seen_empty": 1}] * 3


def test_an_hour_that_is_old_by_the_vendors_clock_alone_is_not_called_empty(
    env: Environment, database_url: str
) -> None:
    """Prevents the same by a vendor whose clock is wrong."""
    seen = _twice(env, database_url, now_us() // HOUR_US * HOUR_US - 3 * HOUR_US, MONTH_S)
    assert seen == [{"present": 1, "seen_empty": 1}] * 3


def test_a_clock_that_is_a_little_off_changes_nothing(env: Environment, database_url: str) -> None:
    """Prevents hours that are never called empty because the clocks differ by some minutes."""
    seen = _twice(env, database_url, us("2023-02-20T12"), 120.0)
    assert seen[0] == {"present": 1, "seen_empty": 1}
    assert seen[-1] == {"present": 1, "confirmed_empty": 1}


def test_a_correction_replaces_an_hour_that_was_fetched_by_a_clock_ahead(env: Environment, database_url: str) -> None:
    """Prevents an old content that can never be replaced, because it was fetched "in forty days"."""
    hour_us = us("2023-02-20T12")
    path = "bi5/" + bi5.hour_path("BTCUSD", hour_us)
    answers = made_hours("BTCUSD", "BTC-USD", [hour_us], factor=10)
    with vendor(answers.get, 40 * 86_400.0) as feed:
        environment = env(**feed.environment(), DUKASCOPY_FEED="bi5")
        flags = ("--instruments", "BTCUSD", "--from", "2023-02-20T12", "--to", "2023-02-20T13", "--refetch")
        with writer(environment):
            assert load(environment, *flags).returncode == 0
            before = rows(database_url, "SELECT sum(bid) FROM quotes")[0][0]
            answers[path] = made_hours("BTCUSD", "BTC-USD", [0, hour_us], factor=10)[path]
            feed.ahead_s = 0.0
            done = load(environment, *flags)
            assert done.returncode == 0, done.stdout + done.stderr
            assert rows(database_url, "SELECT sum(bid) - %s, count(*) FROM quotes", before) == [(7, 10)]
            assert rows(database_url, "SELECT revision FROM quote_hours") == [(1,)]
    assert counts(database_url) == {"BTC-USD": 10}


def test_health_is_there_before_the_services_are(env: Environment, tmp_path: Path) -> None:
    """Prevents a watchdog that kills what waits for its services."""
    environment = env(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    with running("producers.dukascopy", environment, tmp_path, "--follow", "--instruments", "BTCUSD") as process:
        until("the reason", lambda: process.health()[1]["why"] == ["waiting for the database"])
        assert process.end() == 0


@pytest.mark.parametrize("endpoint", ["/instruments/", "/ticks/"])
def test_a_stop_is_heard_while_the_vendor_keeps_silent(
    env: Environment, database_url: str, tmp_path: Path, endpoint: str
) -> None:
    """Prevents a stop that waits for the answer to a question of the main thread, or of the others."""
    with running_simulator(synthesize_hours=6) as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="json")
        simulator.fault("slow", "dukascopy", endpoint=endpoint, stall=300, seconds=3600)
        flags = ("--follow", "--instruments", "BTCUSD", "--from", "3_hours_ago")
        with running("producers.dukascopy", environment, tmp_path, *flags) as process:
            until("the silence", lambda: simulator.faults()["struck"].get("dukascopy/slow"))
            assert process.end() == 0  # within 30 s; the stall is 300 s

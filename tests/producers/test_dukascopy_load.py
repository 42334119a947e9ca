"""Loads end to end: feed, broker, writer, database. Which failure each prevents is in its docstring."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal

import psycopg
import pytest

from pipeline.core.settings import PROJECT
from pipeline.database.ledger import Ledger
from simulator.testing import Simulator, running_simulator
from tests.dukascopy_help import BI5, counts, load, made_hours, rows, states, until, us, vendor, warm, writer

Environment = Callable[..., dict[str, str]]


def test_a_day_from_a_folder_is_stored_exactly_and_a_second_run_does_nothing(
    env: Environment, database_url: str
) -> None:
    """Lost or doubled quotes, and a second run that fetches or writes again."""
    environment = env(DUKASCOPY_FEED=BI5)
    with writer(environment):
        flags = ("--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05")
        done = load(environment, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        assert counts(database_url) == {"EUR-USD": 136_741}
        assert states(database_url, "EUR-USD") == {"present": 24}
        before = rows(database_url, "SELECT hour, stored_at, fetched_at FROM quote_hours ORDER BY 1")
        again = load(environment, *flags)
        assert again.returncode == 0, again.stdout + again.stderr
        assert '"hours_stored": 0' in again.stdout
        assert rows(database_url, "SELECT hour, stored_at, fetched_at FROM quote_hours ORDER BY 1") == before


def test_both_network_feeds_store_the_recorded_bitcoin_hours(env: Environment, database_url: str) -> None:
    """A feed that cannot be used, or whose hours differ from the other's."""
    with running_simulator() as simulator:
        for feed in ("bi5", "json"):
            environment = env(**simulator.environment(), DUKASCOPY_FEED=feed)
            with writer(environment):
                done = load(
                    environment,
                    "--instruments",
                    "BTCUSD",
                    "--from",
                    "2023-02-20T12",
                    "--to",
                    "2023-02-20T14",
                    "--refetch",
                )
                assert done.returncode == 0, done.stdout + done.stderr
            assert counts(database_url) == {"BTC-USD": 8_523 + 6_193}
            found = rows(database_url, "SELECT feed, revision FROM quote_hours ORDER BY hour")
            assert found == [(feed, 0), (feed, 0)]


@pytest.mark.parametrize("fault", ["html", "5xx", "truncated-body", "wrong-length"])
def test_what_is_no_answer_never_makes_an_hour_empty(env: Environment, database_url: str, fault: str) -> None:
    """A busy or broken server whose answers are stored as "there was nothing"."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_RETRY_SECONDS=0.01)
        flags = ("--instruments", "BTCUSD", "--from", "2023-02-20T12", "--to", "2023-02-20T14")
        with writer(environment):
            simulator.fault(fault, "dukascopy", seconds=3600)
            failed = load(environment, *flags)
            assert failed.returncode == 1, failed.stdout + failed.stderr
            assert "2 hours missing from 2023-02-20 12:00" in failed.stderr
            assert "next attempt" in failed.stderr
            assert states(database_url, "BTC-USD") == {}
            simulator.clear()
            done = load(environment, *flags)
            assert done.returncode == 0, done.stdout + done.stderr
            assert counts(database_url) == {"BTC-USD": 14_716}


def test_empty_first_full_later_ends_full_and_empty_twice_is_final(env: Environment, database_url: str) -> None:
    """An hour called empty for ever because of one answer; an hour asked for ever though it is empty."""
    with running_simulator(synthesize_hours=240) as simulator:  # recent hours, by which a feed proves itself
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0, DUKASCOPY_MAX_RATE=1000
        )
        flags = ("--instruments", "BTCUSD", "--from", "2023-02-20T11", "--to", "2023-02-20T14")
        with writer(environment):
            simulator.fault("empty", "dukascopy", count=3)
            first = load(environment, *flags)
            assert first.returncode == 1
            assert "next attempt" in first.stderr
            assert states(database_url, "BTC-USD") == {"seen_empty": 3}
            second = load(environment, *flags)
            assert second.returncode == 0, second.stdout + second.stderr
            assert states(database_url, "BTC-USD") == {"present": 2, "confirmed_empty": 1}
            assert counts(database_url) == {"BTC-USD": 14_716}


def test_refetch_of_an_hour_that_is_proven_empty_is_done(env: Environment, database_url: str) -> None:
    """Prevents an exit code of 1 and "missing" for ever, because the vendor says once more what is proven already."""
    hour = us("2024-05-14T10")
    answers = made_hours("EURUSD", "EUR-USD", [hour])
    span = ("--instruments", "EURUSD", "--from", "2024-05-14T10", "--to", "2024-05-14T12")
    with vendor(answers.get) as there:
        environment = env(**there.environment(), DUKASCOPY_FEED="json", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0)
        with writer(environment):
            load(environment, *span)
            assert load(environment, *span).returncode == 0
            again = load(environment, *span, "--refetch")
    assert (again.returncode, again.stderr) == (0, "")
    assert states(database_url, "EUR-USD") == {"present": 1, "confirmed_empty": 1}


def test_refetch_of_an_hour_of_which_the_vendor_has_nothing_any_more_keeps_it(
    env: Environment, database_url: str
) -> None:
    """Prevents an exit code of 1 and "needs a second look" for ever about quotes that are stored and stay."""
    answers = made_hours("EURUSD", "EUR-USD", [us("2024-05-14T10"), us("2024-05-14T11")])
    span = ("--instruments", "EURUSD", "--from", "2024-05-14T10", "--to", "2024-05-14T12")
    with vendor(answers.get) as there:
        environment = env(**there.environment(), DUKASCOPY_FEED="json", DUKASCOPY_EMPTY_CONFIRM_SECONDS=0)
        with writer(environment):
            assert load(environment, *span).returncode == 0
            before = counts(database_url)
            answers.pop(next(path for path in answers if path.startswith("json/")))
            again = load(environment, *span, "--refetch")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count('"event": "hour.kept"') == 1
    assert states(database_url, "EUR-USD") == {"present": 2}
    assert counts(database_url) == before


def _asked(simulator: Simulator) -> int:
    return int(simulator.stats()["totals"].get("dukascopy", {}).get("requests", 0))


def test_a_second_load_after_the_database_is_lost_asks_nobody(env: Environment, database_url: str) -> None:
    """Everything fetched again from the vendor for want of a cache."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="auto")
        flags = ("--instruments", "BTCUSD", "--from", "2023-02-20T12", "--to", "2023-02-20T14")
        with writer(environment):
            assert load(environment, *flags).returncode == 0
            simulator.reset_stats()
            with psycopg.connect(database_url, autocommit=True) as conn:
                conn.execute("DELETE FROM quote_hours")
                conn.execute("DELETE FROM quotes")
                conn.execute("DELETE FROM quote_candle_1m")
                conn.execute("DELETE FROM quote_candle_1h")
            assert load(environment, *flags).returncode == 0
            assert _asked(simulator) == 0
            assert counts(database_url) == {"BTC-USD": 14_716}


def test_a_corrected_hour_replaces_the_old_one(env: Environment, database_url: str) -> None:
    """The vendor's corrections never taken over, or old and new quotes side by side."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5")
        flags = ("--instruments", "BTCUSD", "--from", "2023-02-20T12", "--to", "2023-02-20T13")
        with writer(environment):
            assert load(environment, *flags).returncode == 0
            before = rows(database_url, "SELECT sum(bid), sum(ask) FROM quotes")[0]
            simulator.fault("corrected", "dukascopy", seconds=3600)
            assert load(environment, *flags, "--refetch").returncode == 0
            after = rows(database_url, "SELECT sum(bid), sum(ask) FROM quotes")[0]
            assert counts(database_url) == {"BTC-USD": 8_523}
            assert [new - old for new, old in zip(after, before, strict=True)] == [Decimal("852.3")] * 2
            assert rows(database_url, "SELECT revision FROM quote_hours") == [(1,)]


def test_follow_brings_hours_of_today_by_itself_and_stops_quickly(env: Environment, database_url: str) -> None:
    """A supervised process that misses new hours, ends by itself, or takes longer than 2 s to stop."""
    with running_simulator(synthesize_hours=6) as simulator:
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="json", DUKASCOPY_POLL_SECONDS=1, DUKASCOPY_MAX_RATE=100
        )
        command = [sys.executable, "-m", "producers.dukascopy", "--follow", "--instruments", "BTCUSD"]
        command += ["--from", "3_hours_ago"]
        with writer(environment), subprocess.Popen(command, env=environment, cwd=PROJECT) as process:
            try:
                until(lambda: states(database_url, "BTC-USD").get("present", 0) >= 2)
                until(lambda: "partial" in states(database_url, "BTC-USD"))
                newest = "SELECT max(ts) FROM quotes"
                first = rows(database_url, newest)
                until(lambda: rows(database_url, newest) > first)  # the running hour grows
                assert process.poll() is None
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0


def test_ctrl_c_while_the_server_is_silent_stops_at_once(env: Environment, database_url: str) -> None:
    """Thirty seconds of a stalled server between Ctrl-C and the prompt."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5")
        simulator.fault("slow", "dukascopy", stall=300, seconds=3600)
        command = [sys.executable, "-m", "producers.dukascopy", "--instruments", "EURUSD"]
        command += ["--from", "2019-02-04", "--to", "2019-02-05"]
        with subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL) as process:
            until(lambda: simulator.faults()["struck"].get("dukascopy/slow"))
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1  # the stall is 300 s, the read time-out 35 s


def test_ctrl_c_in_a_load_counts_what_is_done(env: Environment, database_url: str) -> None:
    """Hours that were stored before Ctrl-C and are called not begun: nobody knows then what a second run is for."""
    with running_simulator(synthesize_hours=200) as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="json", DUKASCOPY_MAX_RATE=5)
        command = [sys.executable, "-m", "producers.dukascopy", "--instruments", "BTCUSD", "--from", "100_hours_ago"]
        with (
            writer(environment),
            subprocess.Popen(
                command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            until(lambda: states(database_url, "BTC-USD").get("present", 0) >= 2)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=20)
            assert process.returncode == 1, out + error
            until(lambda: counts(database_url).get("BTC-USD", 0) > 0)
        (done,) = [json.loads(line) for line in out.splitlines() if '"load.done"' in line]
        assert done["hours_stored"] >= 2
        assert done["quotes"] > 0
        assert done["text"].startswith("stopped before it was done")
        assert "hours missing from" in error
        assert "stopped before it was its turn" in error


def test_a_server_that_throttles_is_not_angered(env: Environment, database_url: str) -> None:
    """A rate that stays above the vendor's limit: refusals, then a ban."""
    with running_simulator() as simulator:
        environment = env(
            **simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_RETRY_SECONDS=0.2, DUKASCOPY_MAX_RATE=100
        )
        simulator.fault("throttle", "dukascopy", rate=30, seconds=3600)
        warm(environment, "bi5", 28)
        with writer(environment):
            load(environment, "--instruments", "BTCUSD", "--from", "2023-01-01", "--to", "2023-01-12")
        told = simulator.stats()["totals"]["dukascopy"]
        assert told["requests"] >= 11 * 24
        assert told["refused"] <= 0.05 * told["requests"]


def test_two_processes_share_the_work(env: Environment, database_url: str) -> None:
    """Hours fetched by both of two processes; `--no-wait` that waits."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=40)
        flags = ["--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05"]
        command = [sys.executable, "-m", "producers.dukascopy", *flags]
        warm(environment, "bi5", 10)
        with (
            psycopg.connect(database_url, autocommit=True) as conn,
            Ledger(conn).turn("dukascopy EUR-USD", threading.Event()) as mine,
        ):
            assert mine
            skipped = load(environment, *flags, "--no-wait")
            assert skipped.returncode == 1
            assert "another process is loading it" in skipped.stderr
            assert _asked(simulator) == 0
        with (
            writer(environment),
            subprocess.Popen(command, env=environment, cwd=PROJECT) as first,
            subprocess.Popen(command, env=environment, cwd=PROJECT) as second,
        ):
            assert (first.wait(90), second.wait(90)) == (0, 0)
        assert _asked(simulator) == 24
        assert counts(database_url) == {"EUR-USD": 136_741}

"""scripts/status: that its exit code can be trusted and its screen fits what it says."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from rich.console import Console

from consumers.trades import Trades
from pipeline import status
from pipeline.broker import bootstrap
from pipeline.core.health import HealthServer
from pipeline.core.programs import Program
from pipeline.core.runtime import now_us
from pipeline.core.settings import PulsarSettings, load
from pipeline.ops import collect, sentences
from pipeline.ops.claim import complete_text
from tests.hostile_server import hostile
from tests.messages import received, store, trade, trades_record
from venues.adapter import Proof
from venues.coinbase.settings import CoinbaseSettings
from venues.kraken.settings import KrakenSettings


def test_a_share_never_promises_too_much() -> None:
    """Prevents 99.99996 % from reading as complete."""
    at = datetime(2026, 11, 25, 12, 3, 4, tzinfo=UTC)
    assert complete_text(Proof.IDS, 0.9999999, None, True, at) == "99.9999 %"
    assert complete_text(Proof.IDS, 1.0, {"venue_has_none": 5}, True, at) == "100 %"
    assert complete_text(Proof.IDS, 1.0, {"too_old": 490, "venue_has_none": 5}, True, at) == "100 %, 490 too old"
    assert complete_text(Proof.IDS, None, None, True, at) == "not known since 12:03:04"
    assert complete_text(Proof.IDS, None, None, True, None) == "not known yet"
    assert complete_text(Proof.WINDOWS, 1.0, {"too_old": 9}, True, at) == "100 % by time windows, 9 too old"
    assert complete_text(Proof.SEQUENCE, 0.5, None, True, at) == "50.0000 % by sequence"
    assert complete_text(Proof.HOURS, 1.0, {"closed": 48}, False, None) == "100 %"


def test_what_cannot_be_proven_is_never_complete() -> None:
    """Prevents "100 %" of samples and of venues that nobody knows, whatever the figures say."""
    for share in (None, 0.5, 1.0):
        assert complete_text(Proof.SAMPLED, share, None, None, None) == "sampled"
        assert complete_text(Proof.SAMPLED, share, None, True, None, timedelta(minutes=12)) == "sampled, 12 min missed"
        assert complete_text(None, share, {"too_old": 1}, True, None) == "not proven"
    for text, seconds in (("1 s", 1), ("119 s", 119), ("2 min", 120), ("3 h", 10_800)):
        missed = timedelta(seconds=seconds)
        assert complete_text(Proof.SAMPLED, None, None, None, None, missed) == f"sampled, {text} missed"
    samples = collect.InstrumentState("oanda", "EUR-USD", "trades", 5, 1.0, 1.0, None, 0, None, 0, live=True)
    samples.proof = Proof.SAMPLED
    assert sentences.missing([samples]) == []
    windows = replace(samples, venue="bitstamp", proof=Proof.WINDOWS, missing=90)
    assert sentences.missing([windows]) == [
        "bitstamp EUR-USD: 90 seconds missing",
        "bitstamp EUR-USD: completeness is not known yet (neither stream nor REST confirms the newest trade)",
    ]


def test_candles_of_a_closed_market_are_not_late(in_env: Callable[..., None]) -> None:
    """Prevents a weekend from being a problem, and an exchange that no longer answers from being none."""
    in_env(EXCHANGE_CANDLES_ENABLED="true")
    asleep = collect.CandleState("oanda", "EUR-USD", 60, 100, 90.0, None, 90_000.0)
    assert sentences.silent([], [asleep]) == []
    assert sentences.silent([], [replace(asleep, behind_s=1200.0)]) == [
        "oanda EUR-USD: its candles are final up to 20 min ago only"
    ]


def test_ages_are_short() -> None:
    """Prevents ages that nobody can compare."""
    assert [status.age(s) for s in (None, -1, 0.44, 12, 600, 7300, 864_000)] == [
        "-",
        "0.0 s",
        "0.4 s",
        "12 s",
        "10 min",
        "2 h",
        "10 d",
    ]


@pytest.mark.parametrize(("well", "expected"), [(True, "ok"), (False, "unwell")])
def test_a_program_is_what_its_health_says(
    in_env: Callable[..., None], free_port: Callable[[], int], well: bool, expected: str
) -> None:
    """Prevents a program that answers 503 from counting as running."""
    port = free_port()
    in_env(METRICS_BASE_PORT=port - 1)
    server = HealthServer("trades-writer", port, lambda: (well, {"why": ["the database does not answer"]}))
    try:
        found = collect.program_state(Program("trades-writer", "consumers.trades", 1), None)
        assert (found.state, found.why) == (expected, ["the database does not answer"])
    finally:
        server.close()


def test_off_done_and_down_are_told_apart(in_env: Callable[..., None], free_port: Callable[[], int]) -> None:
    """Prevents alarms about what is switched off, and silence about what crashed."""
    in_env(METRICS_BASE_PORT=free_port(), COINBASE_ENABLED="false")
    off = Program("coinbase", "producers.coinbase", 6, switch=CoinbaseSettings)
    loader = Program("load-eurusd", "producers.dukascopy", 21, once=True)
    loading = {"statename": "RUNNING", "pid": 1, "now": 5, "start": 2}
    assert collect.program_state(loader, loading).state == "ok"
    assert collect.program_state(off, None).state == "off"
    assert collect.program_state(loader, {"statename": "EXITED", "exitstatus": 0}).state == "done"
    assert collect.program_state(loader, {"statename": "EXITED", "exitstatus": 1}).state == "down"
    assert collect.program_state(loader, None).why == ["not running"]


def test_a_program_that_was_stopped_is_down(in_env: Callable[..., None], free_port: Callable[[], int]) -> None:
    """Prevents "All well" while a producer that somebody ended with SIGTERM, exit code 0, stays down for good."""
    in_env(METRICS_BASE_PORT=free_port(), KRAKEN_ENABLED="true")
    kraken = Program("kraken", "producers.kraken", 5, switch=KrakenSettings)
    found = collect.program_state(kraken, {"statename": "EXITED", "exitstatus": 0})
    assert found.state == "down"
    assert "was stopped" in found.why[0]


def test_status_of_stored_trades_names_what_is_missing(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> None:
    """Prevents an exit code 0 while trades are missing."""
    in_env()
    bootstrap.broker(load(PulsarSettings))
    now = now_us()
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record([trade(n, at_us=now) for n in (1, 2, 6)]))])
    done = subprocess.run([python, "-m", "pipeline.status", "--json"], env=env(), capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert "kraken BTC-USD: 3 trades missing" in found["problems"]
    (one,) = found["instruments"]
    assert (one["rows"], one["missing"], one["backlog"]) == (3, 3, 0)


def test_without_services_it_says_so_and_ends(env: Callable[..., dict[str, str]], python: str) -> None:
    """Prevents a status that hangs or breaks when everything is down."""
    done = subprocess.run(
        [python, "-m", "pipeline.status"],
        capture_output=True,
        text=True,
        env=env(PULSAR_ADMIN_URL="http://127.0.0.1:9", DATABASE_URL="postgresql://x@127.0.0.1:9/x"),
    )
    assert done.returncode == 1
    assert "broker: Pulsar admin" in done.stdout
    assert "database: the database does not answer" in done.stdout
    assert "\x1b" not in done.stdout, "colours are for terminals"


def test_the_screen_is_not_wider_than_a_terminal() -> None:
    """Prevents columns that are cut off or wrapped."""
    health = {"backlog_messages": 1_234_567, "last_commit_age_s": 1.0}
    found = collect.State(
        [collect.ProgramState("exchange-candles", "ok", 9108, health=health)],
        [
            collect.InstrumentState(
                "dukascopy", "BRENTCMD-USD", "quotes", 123_456_789, 1234.5, 3, 12, 1234, 0.9999, 1234, proof=Proof.HOURS
            )
        ],
        {},
        [],
    )
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(status.render(found))
    text = console.export_text()
    assert "123,456,789" in text
    assert "99.9900 %" in text
    assert "…" not in text


def test_who_answers_for_a_program_that_does_not_run_is_not_believed(
    in_env: Callable[..., None], free_port: Callable[[], int]
) -> None:
    """Prevents: "All well" because another account's program listens on the port of a dead one."""
    port = free_port()
    in_env(METRICS_BASE_PORT=port - 1)
    stranger = HealthServer("trades-writer", port, lambda: (True, {"why": []}))
    try:
        for state in ("FATAL", "BACKOFF", "EXITED", "STOPPED"):
            known = {"statename": state, "exitstatus": 1}
            found = collect.program_state(Program("trades-writer", "consumers.trades", 1), known)
            assert (found.state, found.why) == ("down", [f"supervisord says {state.lower()}"])
    finally:
        stranger.close()


def test_an_answer_without_end_is_no_answer(in_env: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a status that never ends, and a dashboard whose memory grows, by what somebody else sends."""
    monkeypatch.setattr(collect, "ANSWER_WITHIN_S", 1.0)

    def flood(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():
            peer.sendall(b"[" * 65536)

    def drip(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not over.wait(0.1):
            peer.sendall(b" ")

    def deep(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"[" * 1_000_000)

    for behave in (flood, drip, deep):
        with hostile(behave) as url:
            in_env(METRICS_BASE_PORT=int(url.rstrip("/").rpartition(":")[2]) - 1)
            found = collect.program_state(Program("trades-writer", "consumers.trades", 1), None)
            assert found.state == "down"


def test_a_venues_words_neither_break_nor_control_the_screen() -> None:
    """Prevents: a status that ends with an error, or a terminal that somebody else writes to, because a venue gave as
    its reason what the table takes for markup or the terminal for a command."""
    words = "no such [/pair] [red]\x1b]0;owned\x07\u202e"
    ran = [collect.ProgramState("kraken", "unwell", 9105, [words], health={"backlog_messages": "many"})]
    ran.append(collect.ProgramState("coinbase", "ok", 9106, health={"backlog_messages": "many"}))
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None)
    console.print(status.render(collect.State(ran, [], {}, [words])))
    assert text.getvalue().count(r"no such [/pair] [red]\x1b]0;owned\x07\u202e") == 2
    assert "\x1b]" not in text.getvalue()

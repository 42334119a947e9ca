"""The page's JSON interface: refusals are sentences, foreign names are kept out, decimals stay exact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from messages import T0_US, received, store, trade, trades_record

from consumers.trades import Trades
from dashboard.server import Dashboard

Client = TestClient[Any, Any]


@pytest.fixture(autouse=True)
def _stored(in_env: Callable[..., None], database_url: str) -> None:
    in_env()
    trades = [trade(n, at_us=T0_US + n * 1000, price="0.000000012345678901", quantity="1000.10") for n in (1, 2, 5)]
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record(trades))])


def asked(ask: Callable[[Client], Awaitable[Any]]) -> Any:
    """What `ask` returns, given a client of a dashboard of this test."""

    async def run() -> Any:
        async with TestClient(TestServer(Dashboard().app)) as client:
            return await ask(client)

    return asyncio.run(run())


def get(path: str, **headers: str) -> tuple[int, Any]:
    async def ask(client: Client) -> tuple[int, Any]:
        response = await client.get(path, headers=headers)
        return response.status, await response.json()

    result: tuple[int, Any] = asked(ask)
    return result


def test_candles_keep_every_digit() -> None:
    """Prevents prices that go through a float on their way to the screen."""
    status, body = get("/api/candles?venue=kraken&product=BTC-USD&frame=1m")
    assert status == 200
    ((_, opened, _, _, _, volume, _, ticks),) = body["candles"]
    assert (opened, volume, ticks) == ("0.000000012345678901", "3000.3", 3)
    assert body["more"] is False


def test_gaps_have_the_times_of_their_neighbours() -> None:
    """Prevents a gap that is shaded at the wrong place."""
    status, body = get("/api/gaps?venue=kraken&product=BTC-USD&from=0&to=99999999999999")
    assert status == 200
    assert [(g["state"], g["first_id"], g["last_id"], g["count"]) for g in body] == [("missing", 3, 4, 2)]
    assert (body[0]["from_s"], body[0]["to_s"]) == (T0_US / 1e6 + 0.002, T0_US / 1e6 + 0.005)


def test_days_name_what_is_missing() -> None:
    """Prevents a green square over a hole."""
    status, body = get("/api/days?venue=kraken&product=BTC-USD")
    assert status == 200
    assert [(d["state"], d["rows"], d["missing"]) for d in body] == [("missing", 3, 2)]


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/api/candles?venue=kraken&product=XYZ-USD", "nothing is stored"),
        ("/api/candles?venue=kraken&product=BTC-USD&frame=2m", "no time frame"),
        ("/api/candles?venue=kraken&product=BTC-USD&before=soon", "whole number"),
        ("/api/gaps?venue=kraken&product=BTC-USD&from=1", "`to` is missing"),
        ("/api/stream?venue=nobody&product=BTC-USD", "nothing is stored"),
        ("/api/days?venue=kraken&product=BTC-USD&end=yesterday", "day like"),
    ],
)
def test_wrong_questions_are_answered_with_a_sentence(path: str, word: str) -> None:
    """Prevents error 500 and a stack trace where somebody mistyped an address."""
    status, body = get(path)
    assert status == 400
    assert word in body["error"]


def test_a_page_elsewhere_cannot_read_this_one() -> None:
    """Prevents a web page that gives its own name to 127.0.0.1 from reading what is here."""
    assert get("/api/instruments", Host="evil.example:8500")[0] == 403
    assert get("/api/instruments", Host="localhost:8500")[0] == 200


def test_without_a_database_it_says_so(in_env: Callable[..., None]) -> None:
    """Prevents an empty chart that looks like an empty market."""
    in_env(DATABASE_URL="postgresql://x@127.0.0.1:9/x")
    status, body = get("/api/instruments")
    assert status == 503
    assert "database" in body["error"]


def test_health_is_well_again_once_the_database_is(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a dashboard that stays unwell for ever after the database was away for a moment."""
    monkeypatch.setattr("dashboard.server.PROBE_EVERY_S", 0.05)

    async def looks() -> None:
        dashboard = Dashboard()

        async def until(well: bool) -> None:
            while dashboard.health()[0] is not well:
                await asyncio.sleep(0.01)

        async with TestClient(TestServer(dashboard.app)) as client:
            assert (await client.get("/api/instruments")).status == 200
            await until(True)
            with psycopg.connect(database_url, autocommit=True) as conn:
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'dashboard' AND datname = current_database()"
                )
            await until(False)
            await until(True)

    asyncio.run(looks())


def test_health_answers_while_the_database_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the watchdog from killing the dashboard for the database's silence."""
    monkeypatch.setattr("dashboard.server.ANSWER_WITHIN_S", -10.0)

    async def look() -> tuple[bool, dict[str, Any]]:
        return Dashboard().health()

    well, body = asyncio.run(look())
    assert not well
    assert "no answer for" in body["why"][0]

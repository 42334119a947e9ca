"""The page's JSON interface: refusals are sentences, foreign names are kept out, decimals stay exact."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from consumers.instruments import Instruments
from consumers.quotes import Hours
from consumers.trades import Trades
from dashboard.server import Dashboard
from pipeline.core.runtime import now_us
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record

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


@pytest.mark.parametrize(("first_minute", "more"), [(0, True), (1, False)])
def test_an_answer_that_was_cut_off_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch, first_minute: int, more: bool
) -> None:
    """Prevents half an interval of candles that is taken for the whole."""
    later = [trade(5 + minute, at_us=T0_US + minute * 60_000_000) for minute in (1, 2)]
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record(later))])
    monkeypatch.setattr("dashboard.queries.MOST_CANDLES", 2)
    minute_s = T0_US // 60_000_000 * 60
    begin, end = minute_s + first_minute * 60, minute_s + 180
    _, body = get(f"/api/candles?venue=kraken&product=BTC-USD&from={begin}&to={end}")
    assert [row[0] for row in body["candles"]] == [minute_s + 60, minute_s + 120]
    assert body["more"] is more


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
        ("/api/candles?venue=kraken&product=XYZ-USD", "no data of kraken XYZ-USD is stored"),
        ("/api/candles?venue=kraken&product=BTC-USD&frame=2m", "not a valid timeframe"),
        ("/api/candles?venue=kraken&product=BTC-USD&before=soon", "whole number"),
        ("/api/gaps?venue=kraken&product=BTC-USD&from=1", "`to` is missing"),
        ("/api/stream?venue=nobody&product=BTC-USD", "no data of nobody BTC-USD is stored"),
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


@pytest.mark.parametrize(
    "query",
    [
        "candles?venue=kraken&product=BTC-USD&limit=0",
        "candles?venue=kraken&product=BTC-USD&limit=NaN",
        "candles?venue=kraken&product=BTC-USD&before=-1",
        "candles?venue=kraken&product=BTC-USD&before=1e9",
        f"gaps?venue=kraken&product=BTC-USD&from=0&to={10**40}",
        "gaps?venue=kraken&product=BTC-USD&from=2&to=1",
        "days?venue=kraken&product=BTC-USD&end=0001-01-01",
        "days?venue=kraken&product=BTC-USD&end=9999-12-31",
        "days?venue=kraken&product=BTC-USD&end=2026-W48-3",
        "days?venue=kraken&product=%00",
        "days?venue=kraken&product=%ed%a0%80",
        "days?venue=..%2f..&product=BTC-USD",
        "days?product=BTC-USD",
    ],
)
def test_no_value_is_too_odd_for_a_sentence(query: str) -> None:
    """Prevents error 500 for the year 1, numbers beyond every calendar and names that are none."""
    status, body = get(f"/api/{query}")
    assert status == 400
    assert len(body["error"]) < 300


@pytest.mark.parametrize("product", ["BTC-USD", "btc/usd", "BTCUSD", "XBT/USD", "xbtusd"])
def test_names_are_understood_as_everywhere(product: str) -> None:
    """Prevents a page that knows fewer spellings than the other tools."""
    status, body = get(f"/api/candles?venue=Kraken&product={product}")
    assert status == 200
    assert len(body["candles"]) == 1


def _head(database_url: str, newest_id: int, age_s: int) -> None:
    """What the gap filler keeps of a venue's newest trade, asked `age_s` ago."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO trade_heads SELECT instrument_id, %s, now() - INTERVAL '1 hour', %s,"
            " now() - make_interval(secs => %s), 'rest' FROM instruments",
            (newest_id, newest_id, age_s),
        )


def test_what_is_missing_at_the_end_shows(database_url: str) -> None:
    """Prevents a chart and a day that look complete since the newest trades never came."""
    _head(database_url, 9, 1)
    _, body = get("/api/gaps?venue=kraken&product=BTC-USD&from=0&to=99999999999")
    assert [(g["state"], g["first_id"], g["last_id"]) for g in body] == [("missing", 6, 9), ("missing", 3, 4)]
    assert body[0]["from_s"] == T0_US / 1e6 + 0.005
    _, state = get("/api/state")
    assert (state["ok"], state["instruments"][0]["missing"], state["instruments"][0]["unknown"]) == (False, 6, False)


def test_what_nobody_could_ask_about_is_not_complete(database_url: str) -> None:
    """Prevents 100 % and a green square while neither stream nor REST says what the venue has."""
    now = now_us()
    trades = [trade(n, at_us=now - (10 - n) * 1000) for n in range(1, 6)]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("TRUNCATE trade_coverage, trades, trade_candle_1m, trade_candle_1h")
        store(Trades(), conn, [received("trades", trades_record(trades))])
    _head(database_url, 5, 600)
    _, state = get("/api/state")
    (one,) = state["instruments"]
    assert (one["unknown"], one["missing"], one["share_complete"]) == (True, None, None)
    assert one["complete"].startswith("not known since")
    assert abs(one["proven_until"] - (time.time() - 600)) < 60
    _, days = get("/api/days?venue=kraken&product=BTC-USD")
    assert days[-1]["state"] == "unknown"


def test_what_cannot_be_had_is_not_called_complete(database_url: str) -> None:
    """Prevents "100 %" without the word for trades that are gone for good."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at, signed_at)"
            " SELECT instrument_id, 3, 4, 'too_old', now(), now() FROM instruments"
        )
    _head(database_url, 5, 1)
    _, days = get("/api/days?venue=kraken&product=BTC-USD")
    assert [(d["state"], d["lost"], d["explained"]) for d in days] == [("lost", 2, 0)]
    _, state = get("/api/state")
    assert state["instruments"][0]["complete"] == "100 %, 2 too old"


def test_hours_that_nobody_asked_for_are_not_missing(database_url: str) -> None:
    """Prevents seven years of red squares between a day of 2019 and the live hours."""
    year = 365 * 86_400_000_000
    with psycopg.connect(database_url, autocommit=True) as conn:
        for start in (T0_US // 3_600_000_000 * 3_600_000_000, T0_US // 3_600_000_000 * 3_600_000_000 - year):
            hour = hour_bytes([0], [110_000], hour_start_us=start)
            store(Hours(Instruments()), conn, [received("quotes", hour)])
        conn.execute(
            "INSERT INTO quote_requests (instrument_id, hours) SELECT instrument_id,"
            " range_agg(tstzrange(hour, hour + INTERVAL '2 hours')) FROM quote_hours GROUP BY 1"
        )
    _, body = get("/api/gaps?venue=dukascopy&product=EURUSD&from=0&to=99999999999")
    assert [(g["state"], g["count"]) for g in body] == [("missing", 1), ("missing", 1)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("kinds=trade", "is not a valid kind of event; choose from trades"),
        ("kinds=,", "`kinds` is empty"),
        ("after=x", "is not a valid position"),
        ("product=ABC-DEF", "no data of kraken ABC-DEF is stored"),
    ],
)
def test_a_wrong_query_of_the_events_is_one_sentence(query: str, said: str) -> None:
    status, body = get("/api/events?venue=kraken&" + query + ("" if "product" in query else "&product=BTC-USD"))
    assert status == 400
    assert said in body["error"]

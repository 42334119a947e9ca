"""A page that was cut off comes back by itself and has what it missed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.dashboard_help import Served
from tests.messages import T0_US, trade

DAY_US = 86_400_000_000


@pytest.fixture
def cut_page(browser: Browser) -> Iterator[Page]:
    """A page of which requests may fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 820})
    yield context.new_page()
    context.close()


@contextmanager
def away(page: Page, *paths: str) -> Iterator[None]:
    """While the dashboard answers that the database is away."""

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"error": "the database does not answer"})

    wanted = re.compile("|".join(f"/api/{path}" for path in paths))
    page.route(wanted, refuse)
    yield
    page.unroute(wanted, refuse)


def test_a_stream_that_was_refused_is_asked_for_again(cut_page: Page, served: Served) -> None:
    """Prevents a page that says "reconnecting" for ever: a browser gives up an event stream that got a 503, as every
    page gets when dashboard and database start together."""
    served.store([trade(n, at_us=T0_US + n) for n in range(1, 20)])
    served.publish([trade(19, at_us=T0_US + 19)])
    with away(cut_page, "stream"):
        cut_page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
        expect(cut_page.locator("#live")).to_have_text("reconnecting", timeout=30_000)
        expect(cut_page.locator("#legend")).to_have_attribute("data-candle", re.compile("100.5"), timeout=30_000)
    expect(cut_page.locator("#live")).not_to_have_text("reconnecting", timeout=30_000)


def test_what_happened_meanwhile_is_on_the_chart(cut_page: Page, served: Served) -> None:
    """Prevents a hole of hours between candles that look like neighbours, after a sleep of days or where the first try
    to load what was missed failed."""
    served.store([trade(n, at_us=T0_US + n) for n in range(1, 20)])
    served.publish([trade(19, at_us=T0_US + 19)])
    with away(cut_page, "stream"):
        cut_page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m?view=sma2")
        expect(cut_page.locator("#legend")).to_have_attribute("data-candle", re.compile("100.5"), timeout=30_000)
        expect(cut_page.locator("#live")).to_have_text("reconnecting", timeout=30_000)
        served.store([trade(20 + n, at_us=T0_US + n * DAY_US, price=str(200 + n)) for n in range(1, 10)])
        cut_page.route(re.compile("/api/candles"), lambda route: route.abort(), times=1)
    line = cut_page.locator("#lines [data-line=sma2]")
    expect(line).to_have_attribute("data-value", "208.500", timeout=30_000)
    cut_page.keyboard.press("Home")
    assert json.loads(cut_page.locator("#legend").get_attribute("data-candle") or "[]")[4] == "209"


def test_an_address_that_is_none_shows_a_chart(cut_page: Page, served: Served) -> None:
    """Prevents an empty page, since a link was cut off within its letters."""
    wrong: list[str] = []
    cut_page.on("pageerror", lambda error: wrong.append(str(error)))
    served.store([trade(1)])
    cut_page.goto(f"{served.url}/#/chart/kraken/BTC%")
    expect(cut_page.locator("#legend")).to_have_attribute("data-candle", re.compile("100.5"), timeout=30_000)
    assert not wrong

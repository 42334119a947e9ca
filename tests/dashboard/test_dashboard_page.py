"""The page in a real browser: drawn without an error at both widths and themes, live from the topics, used by keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, Route, expect

from consumers.instruments import Instruments
from consumers.quotes import Hours
from pipeline.broker.topics import full_name
from pipeline.core.runtime import now_us
from tests.archive_help import archive_all, archive_in
from tests.dashboard_help import Served
from tests.messages import T0_US, hour_bytes, received, store, trade

MINUTE_US = 60_000_000


def recent(count: int, first: int = 1, step_us: int = 1_000_000) -> list[Any]:
    """Trades up to now, one a second."""
    last = now_us() - 2_000_000
    return [
        trade(first + n, at_us=last - (count - 1 - n) * step_us, price=f"{50_000 + n % 50}.5") for n in range(count)
    ]


def candle(page: Page) -> list[Any]:
    """The candle that the legend shows."""
    return json.loads(page.locator("#legend").get_attribute("data-candle") or "[]")  # type: ignore[no-any-return]


def wait_for_candle(page: Page, text: str = "[") -> None:
    """Until the legend's candle holds `text`."""
    expect(page.locator("#legend")).to_have_attribute("data-candle", re.compile(re.escape(text)))


@pytest.mark.parametrize("page", [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], indirect=True)
def test_pages_fit_and_draw_without_an_error(page: Page, served: Served, tmp_path: Path) -> None:
    """Prevents errors in the console, pages wider than a phone, and a theme that does not follow the system's."""
    served.store([trade(n, at_us=T0_US + n * 20_000_000) for n in range(1, 300)])
    with psycopg.connect(served.database_url, autocommit=True) as conn:
        hour = hour_bytes([n * 1000 for n in range(3600)], [110_000 + n % 90 for n in range(3600)])
        store(Hours(Instruments()), conn, [received("quotes", hour)])
        archive_all(conn, archive_in(conn, tmp_path))
    wanted = {
        "chart/kraken/BTC-USD/1m": "#chart canvas",
        "chart/dukascopy/EUR-USD/5m": "#chart canvas",
        "complete": "button.day[data-tier=both]",
        "pipeline": "#archive tbody tr",
    }
    for name, drawn in wanted.items():
        page.goto(f"{served.url}/#/{name}")
        expect(page.locator(drawn).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")


def test_running_candle_comes_from_the_topic(page: Page, served: Served) -> None:
    """Prevents a chart that waits for the database: nothing writes here, and the candle must move all the same."""
    served.store(recent(120))
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1d")
    wait_for_candle(page)
    before = candle(page)
    served.publish([trade(1000, at_us=now_us(), price="61234.5678", quantity="0.5")])
    wait_for_candle(page, '"61234.5678"')
    after = candle(page)
    assert after[7] == (before[7] if after[0] == before[0] else 0) + 1
    assert after[2] == "61234.5678"


def test_gap_is_shown_and_its_repair_fills_in(page: Page, served: Served) -> None:
    """Prevents a repaired gap that stays on the screen until somebody reloads the page."""
    trades = recent(300)
    served.store(trades[:150] + trades[200:])
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    expect(page.locator("#gaps li.missing")).to_contain_text("50 trades")
    served.store(trades[150:200])
    served.publish_to(
        "control",
        "gaps",
        "gap",
        {
            "event": "repaired",
            "venue": "kraken",
            "product_id": "BTC-USD",
            "first_id": 151,
            "last_id": 200,
            "from_us": None,
            "to_us": None,
            "reason": None,
            "at_us": now_us(),
        },
    )
    expect(page.locator("#gaps li.missing")).to_have_count(0)
    expect(page.locator("#toasts")).to_contain_text("Gap repaired: 50 trades")


def test_scrolling_back_loads_more(page: Page, served: Served) -> None:
    """Prevents a chart that ends where the first page of history ended."""
    served.store([trade(n, at_us=T0_US + n * MINUTE_US) for n in range(1, 2001)])
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    wait_for_candle(page)
    with page.expect_response(re.compile(r"/api/candles\?.*before=")) as got:
        while not got.is_done():
            page.keyboard.press("ArrowLeft")
            page.wait_for_timeout(20)
    older = got.value.json()["candles"]
    assert older[-1][0] == T0_US // 1_000_000 + (2000 - 600) * 60
    assert len(older) == 600


def test_a_chart_that_arrives_late_does_not_undo_what_was_chosen(page: Page, served: Served) -> None:
    """Prevents a key or a click that is lost because the chart before it was just writing its address."""
    served.store(recent(10))
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    wait_for_candle(page)
    page.evaluate(
        """async () => {
            const dom = await import('/static/js/dom.js');
            dom.rewrite('#/chart/kraken/BTC-USD/1m?view=sma20');
            location.hash = '#/complete';
            dom.rewrite('#/chart/kraken/BTC-USD/1m?view=log');
        }"""
    )
    expect(page.locator("h1")).to_have_text("Completeness")
    page.go_back()
    expect(page).to_have_url(re.compile(r"/1m\?view=sma20$"))


def test_a_page_that_is_left_while_it_loads_does_not_appear(page: Page, served: Served) -> None:
    """Prevents two pages in one, and keys that end in an error, for who is quicker than the database."""
    served.store(recent(10))
    held: list[Route] = []
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    wait_for_candle(page)
    page.route("**/api/state?*", lambda asked: held.append(asked))
    for other in ("pipeline", "complete"):
        with page.expect_request("**/api/state?*"):
            page.locator(f"nav a[data-page='{other}']").click()
        page.keyboard.press("c")
        wait_for_candle(page)
        with page.expect_response("**/api/state?*"):
            while held:
                held.pop().continue_()
        page.evaluate("fetch('/api/about').then((answer) => answer.json())")  # what was asked before is there by now
        expect(page.locator("h1")).to_have_count(0)
        expect(page.locator("#chart")).to_have_count(1)
        expect(page.locator("main")).to_have_class("chart")


def test_keys(page: Page, served: Served) -> None:
    """Prevents a page that only a mouse can use."""
    served.store(recent(10))
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    wait_for_candle(page)
    page.keyboard.press("5")
    expect(page.locator("button[data-frame='1h']")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("g")
    expect(page.locator("h1")).to_have_text("Completeness")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("p")
    expect(page.locator("h1")).to_have_text("Pipeline")
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    page.locator("dialog button").click()
    expect(page.locator("dialog")).to_be_hidden()
    page.keyboard.press("?")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()


def test_pipeline_page_shows_dead_letters_with_their_reason(page: Page, served: Served) -> None:
    """Prevents refused rows that nobody notices."""
    served.store(recent(10))
    served.publish_to(
        "dead-letters",
        "trades-writer",
        "dead_letter",
        {
            "source": "trades-writer",
            "topic": full_name(served.bus.settings.tenant, "trades", "kraken.btc-usd"),
            "message_id": "(1,2,-1,0)",
            "row": 3,
            "reason": "price",
            "detail": "zero <b>",
            "at_us": now_us(),
            "payload": b'{"price": "0"}',
        },
    )
    page.goto(f"{served.url}/#/pipeline")
    expect(page.locator("#letters li")).to_contain_text("zero <b>")
    expect(page.locator("#letters li b").first).to_have_text("price")
    expect(page.locator("#verdict")).to_contain_text("cannot be queried")


def test_any_letter_leaves_the_page_whole(page: Page, served: Served) -> None:
    """Prevents one letter with a time or a text out of any range from hiding all others, or widening the page."""
    served.store(recent(10))
    letter = {
        "source": "trades-writer",
        "topic": "x" * 3_000,
        "message_id": "(1,2,-1,0)",
        "row": None,
        "reason": "r" * 300,
        "detail": "<img src=x onerror=alert(1)>" + "d" * 5_000,
        "at_us": 2**63 - 1,
        "payload": b"[" * 60_000,
    }
    served.publish_to("dead-letters", "trades-writer", "dead_letter", letter)
    page.goto(f"{served.url}/#/pipeline")
    expect(page.locator("#letters li")).to_contain_text("<img src=x")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_page_says_what_is_not_known(page: Page, served: Served) -> None:
    """Prevents a green page while nobody can ask the venue."""
    served.store(recent(10))
    page.goto(f"{served.url}/#/complete")
    expect(page.locator("li.claim")).to_contain_text("not known")
    expect(page.locator("button.day[data-state='unknown']")).to_have_count(1)
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    expect(page.locator("#gap-head")).to_contain_text("not known")
    page.goto(f"{served.url}/#/pipeline")
    expect(page.locator("#instruments td.claim")).to_contain_text("not known")
    expect(page.locator("#verdict")).to_contain_text("not known")

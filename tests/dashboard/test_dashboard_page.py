"""The page in a real browser: drawn without an error at both widths and themes, live from the topics, used by keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from consumers.instruments import Instruments
from consumers.quotes import Hours
from consumers.trades import Trades
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name
from pipeline.core.runtime import now_us
from pipeline.core.settings import PulsarSettings, load
from tests.archive_help import archive_all, archive_in
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record

# As root there is no sandbox; the rest keeps the browser from calling its maker.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    assert found, "no Chromium: run scripts/install-chromium"
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield opened
        opened.close()


class Served:
    """A dashboard of this test, its address, and the bus to publish on."""

    def __init__(self, url: str, database_url: str, bus: Bus) -> None:
        self.url, self.database_url, self.bus = url, database_url, bus
        self._publishers: dict[str, Any] = {}

    def store(self, trades: list[Any]) -> None:
        """As the writer does."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            store(Trades(), conn, [received("trades", trades_record(trades))])

    def publish(self, trades: list[Any]) -> None:
        """As a producer does. No writer runs here, so the database knows nothing of it."""
        if "trades" not in self._publishers:
            self._publishers["trades"] = self.bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
        self._publishers["trades"].send(trades_record(trades, received_at_us=now_us()))
        assert self._publishers["trades"].flush(30)

    def publish_to(self, namespace: str, local: str, schema: str, record: dict[str, Any]) -> None:
        topic = full_name(self.bus.settings.tenant, namespace, local)
        publisher = self.bus.publisher_to(topic, schema, "test")
        publisher.send(record)
        assert publisher.flush(30)


@pytest.fixture
def served(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> Iterator[Served]:
    in_env()
    bootstrap.broker(load(PulsarSettings))
    child = subprocess.Popen([python, "-m", "dashboard"], env=env(), stdout=subprocess.PIPE, text=True)
    bus = Bus(load(PulsarSettings), threading.Event())
    try:
        assert child.stdout is not None
        started = next(line for line in child.stdout if '"process.started"' in line)
        yield Served(json.loads(started)["url"], database_url, bus)
    finally:
        bus.close()
        child.terminate()
        assert child.wait(30) == 0


@pytest.fixture
def page(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose errors fail the test, and which loads nothing from elsewhere."""
    width, theme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 820}, color_scheme=theme)
    opened = context.new_page()
    wrong: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.text} {message.location}")

    def on_request(asked: Request) -> None:
        if not asked.url.startswith((served.url, "data:")):
            wrong.append(f"loads {asked.url}")

    opened.on("console", on_console)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", on_request)
    yield opened
    context.close()
    assert not wrong


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


def _average(values: list[Decimal]) -> str:
    return str((sum(values) / len(values)).quantize(Decimal("0.000000001"), ROUND_HALF_UP))


def test_lines_of_the_address_are_exact_and_follow_the_running_candle(page: Page, served: Served) -> None:
    """Prevents averages that lose digits or stand still, a link that shows something else than what it says, and a
    comparison that a venue or the consensus is missing from."""
    end_us = now_us() // MINUTE_US * MINUTE_US
    prices = [Decimal(50_000) + Decimal(n) / 10**7 for n in range(25)]
    trades = [trade(n + 1, at_us=end_us - (25 - n) * MINUTE_US, price=f"{p:.7f}") for n, p in enumerate(prices)]
    served.store(trades)
    with psycopg.connect(served.database_url, autocommit=True) as conn:
        other = {**trades_record(trades), "venue": "coinbase"}
        store(Trades(), conn, [received("trades", other, "persistent://t/trades/coinbase.btc-usd")])
        conn.execute(
            "WITH q AS (INSERT INTO consensus_quorum (product_id, granularity_s, exchanges, required, as_of)"
            " VALUES ('BTC-USD', 60, '{binance,okx}', 1, now()) RETURNING consensus_id)"
            " INSERT INTO consensus_candle SELECT consensus_id, to_timestamp(%s), 1, 2, 1, 50001.25, 3, 0, 3, 2, 0, 0,"
            " true, 0 FROM q",
            (end_us / 1e6 - 60,),
        )
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m?view=sma20,vwap,log&with=coinbase,consensus")
    line = page.locator("#lines div[data-line=sma20]")
    expect(line).to_have_attribute("data-value", _average(prices[-20:]))
    expect(page.locator("#lines div[data-line='=coinbase']")).to_have_attribute(
        "data-value", f"{prices[-1]:.7f}".rstrip("0")
    )
    expect(page.locator("#lines div[data-line='=consensus']")).to_have_attribute("data-value", "50001.25")
    served.publish([trade(26, at_us=now_us(), price="60000", quantity="0.5")])
    expect(line).to_have_attribute("data-value", _average([*prices[-19:], Decimal(60_000)]))
    page.locator("button[data-switch=vwap]").click()
    expect(page.locator("#lines div[data-line=vwap]")).to_have_count(0)
    assert page.url.endswith("?view=sma20,log&with=coinbase,consensus")
    page.keyboard.press("/")
    page.keyboard.type("xbt coin")
    expect(page.locator("#picks li")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_title("BTC-USD 1m · Market data")
    expect(page.locator("#pick")).to_have_value("BTC-USD · coinbase")


CALCULATED = """async () => {
  const [{ sma, vwap, session }, { feedState }, { parse, format }] = await Promise.all(
    ['indicators', 'feed_state', 'view'].map((name) => import(`/static/js/${name}.js`)));
  const row = (time, close, volume, mean) => [time, close, close, close, close, volume, mean, 1];
  const flat = (time, price, volume) => row(time, price, volume, price);
  const rows = [flat(86340, '1.5', '2'), flat(86400, '0.00000001', '1'), flat(86460, '0.00000003', '3')];
  const link = { text: 'live', kind: 'up' };
  const state = (newest_s, more = {}) => feedState({ link, newest_s, now_s: 1e9, ...more });
  return {
    sma: sma(rows, 2), whole: vwap(rows, 60, true), begun: vwap(rows, 60, false), month: session(1795715946, 14400),
    states: [state(1), state(16), state(16, { quote_s: 1 }), state(16, { trouble: 'kraken is down' }), state(90000),
      state(null)].map((one) => one[1]),
    view: format(parse('?view=sma20,sma999,SMA50,<b>,vwap&with=a,a')), nothing: parse(''),
  };
}"""


def test_calculations_of_the_page(page: Page, served: Served) -> None:
    """Prevents sums that lose digits after a large price, a VWAP of half a day, and green over a dead feed."""
    page.goto(served.url)
    assert page.evaluate(CALCULATED) == {
        "sma": [None, "0.7500000050", "0.0000000200"],
        "whole": ["1.5000000000", "0.0000000100", "0.0000000250"],
        "begun": [None, "0.0000000100", "0.0000000250"],
        "month": 1793491200,
        "states": ["up", "quiet", "quiet", "down", "", ""],
        "view": "view=sma20,sma50,vwap&with=a",
        "nothing": None,
    }


def test_a_feed_whose_newest_trade_is_old_is_not_green(page: Page, served: Served) -> None:
    """Prevents "live" on a page that was just opened on a dead feed, and a bid and ask that do not show."""
    served.store([trade(n, at_us=now_us() - 60_000_000 + n) for n in range(1, 20)])
    served.publish([trade(19, at_us=now_us() - 60_000_000 + 19)])  # the topic is there, so the link is up
    well = {"ok": True, "problems": [], "programs": [], "instruments": [], "products": []}
    page.route(re.compile("/api/state"), lambda route: route.fulfill(json=well))  # the age alone decides
    page.goto(f"{served.url}/#/chart/kraken/BTC-USD/1m")
    expect(page.locator("#live")).to_contain_text("no trade for")
    expect(page.locator("#live")).to_have_class("link quiet")
    served.publish([trade(20, at_us=now_us())])
    expect(page.locator("#live")).to_have_class("link up")
    served.publish_to("tickers", "kraken.btc-usd", "ticker", ticker_record(now_us(), bid="50000.1", ask="50000.30"))
    expect(page.locator("#quote")).to_have_text("bid 50,000.1 · ask 50,000.3")


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

"""Lines beside the candles, what they are made of, and what is said of a feed; in a real browser."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

import psycopg
from playwright.sync_api import Page, expect

from consumers.trades import Trades
from pipeline.core.runtime import now_us
from tests.dashboard_help import Served
from tests.messages import received, store, ticker_record, trade, trades_record

MINUTE_US = 60_000_000


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
    expect(page).to_have_url(re.compile(r"\?view=sma20,log&with=coinbase,consensus$"))
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

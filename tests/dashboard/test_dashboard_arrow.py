"""Candles and ticks as Arrow: what the tables say, in a form that others read without us."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from urllib.parse import urlencode

import pyarrow as pa
import pytest

from pipeline.read import trade_objects
from tests.dashboard_help import Client, asked, save
from tests.messages import T0_US, trade

FROM_S = T0_US // 1_000_000


def get(query: dict[str, object]) -> tuple[int, str, bytes]:
    async def play(client: Client) -> tuple[int, str, bytes]:
        span = {"venue": "kraken", "product": "BTC-USD", "from": FROM_S, "to": FROM_S + 60, **query}
        response = await client.get("/api/arrow?" + urlencode(span))
        return response.status, response.content_type, await response.read()

    found: tuple[int, str, bytes] = asked(play)
    return found


def test_ticks_and_candles_are_the_tables(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents columns under other names, floats where exact ones were asked for, and rows beyond the span."""
    in_env()
    save(database_url, [trade(n, at_us=T0_US + n * 10_000_000, price=f"100.{n}") for n in range(1, 9)])
    status, kind, body = get({"kind": "trades", "exact": 1})
    assert (status, kind) == (200, "application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(body).read_all()
    assert table["trade_id"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["price"].to_pylist()[0] == Decimal("100.1")
    candles = pa.ipc.open_stream(get({"kind": "candles_1m", "to": FROM_S + 120})[2]).read_all()
    assert candles["ticks"].to_pylist() == [5, 3]
    assert candles["close"].to_pylist() == [100.5, 100.8]
    (first, *_) = trade_objects("kraken", "BTC/USD")  # the same for code that works with objects
    assert (first.trade_id, first.price, first.product_id) == (1, Decimal("100.1"), "BTC-USD")


def test_head_makes_no_table(in_env: Callable[..., None]) -> None:
    """Prevents a day of ticks that is read for somebody who asks for the headers only."""
    in_env()

    async def play(client: Client) -> int:
        return (await client.head("/api/arrow?venue=kraken&product=BTC-USD")).status

    assert asked(play) == 405


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"kind": "candles_2m"}, "is not a valid kind of rows; choose from trades"),
        ({"to": FROM_S + 90_000}, "a span of trades has 86400 s at most"),
        ({"from": "x"}, "`from` must be a whole number"),
        ({"exact": "true"}, "`exact` must be 0 or 1, not 'true'"),  # not floats where exact ones were asked for
    ],
)
def test_what_is_wrong_is_one_sentence(
    in_env: Callable[..., None], database_url: str, query: dict[str, object], said: str
) -> None:
    in_env()
    status, _, body = get(query)
    assert status == 400
    assert said in body.decode()

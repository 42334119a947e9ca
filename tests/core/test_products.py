"""One rule for names: what one program takes, every other understands, and nothing else gets into a topic or a path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.topics import topic_of, venue_and_product
from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product, canonical_venue
from venues.coinbase import parse as coinbase_parse
from venues.kraken import symbols as kraken_symbols
from venues.registry import product_at


@pytest.mark.parametrize(
    ("text", "product"),
    [
        ("BTC/USD", "BTC-USD"),
        ("btc-usd", "BTC-USD"),
        ("BTCUSD", "BTC-USD"),
        ("XBT/USD", "BTC-USD"),
        ("xbtusdt", "BTC-USDT"),
        ("ETHXBT", "ETH-BTC"),
        ("T/USD", "T-USD"),
        ("S/USD", "S-USD"),
        ("TUSD", "T-USD"),
        ("AAPLx/USD", "AAPLX-USD"),
        ("1INCH/EUR", "1INCH-EUR"),
        ("1000000MOGLONGNAME/USDT", "1000000MOGLONGNAME-USDT"),
        ("BRENT.CMD/USD", "BRENTCMD-USD"),
        ("BRENTCMDUSD", "BRENTCMD-USD"),
        ("EURUSD", "EUR-USD"),
        ("USDTRY", "USD-TRY"),
        (" BTC/USD\n", "BTC-USD"),
        ("0/USD", "0-USD"),
    ],
)
def test_a_name_in_any_spelling_is_one_product(text: str, product: str) -> None:
    assert canonical_product(text) == product
    assert canonical_product(product) == product
    assert venue_and_product(topic_of("t", "trades", "kraken", text)) == ("kraken", product)


def test_a_venue_s_older_names_are_its_own() -> None:
    """Prevents another venue's XDG, a coin of its own, that is stored as dogecoin."""
    assert product_at("Kraken", "XDG/USD") == "DOGE-USD"
    assert product_at("binance", "XDG/USD") == "XDG-USD"
    assert product_at("kraken", "XBT/USD") == product_at("binance", "XBT/USD") == "BTC-USD"
    assert canonical_venue(" KraKen ") == "kraken"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "USDT",
        "/",
        "-",
        "BTC/",
        "/USD",
        "BTC-USD-PERP",
        "BTC/USD:USDT",
        "../BTC/USD",
        "..",
        ".BTC/USD",
        "BTC./USD",
        "B..C/USD",
        "BTC/US.D",
        "BTC\\USD",
        "BTC\0/USD",
        "BTC /USD",
        "BTC/USD\x1b[31m",
        "\u0661\u0662/USD",
        "stra\u00dfe/usd",
        "\u017f/USD",
        "\u212a/USD",
        "BTC/USD\u2028",
        "A" * 31 + "/USD",
        "A/" + "B" * 21,
        "A" * 1_000_000,
        " " * 1_000_000 + "BTC/USD",
    ],
)
def test_what_cannot_be_a_product_is_one_short_sentence(text: str) -> None:
    """Prevents names that leave their topic or folder, and look-alikes that upper case makes of other letters."""
    with pytest.raises(WrongUse, match="is not a valid product id") as wrong:
        canonical_product(text)
    assert len(str(wrong.value)) < 400
    assert str(wrong.value).isprintable()


@pytest.mark.parametrize("cached", [kraken_symbols.product_of, coinbase_parse._product_of])
def test_a_name_that_a_venue_has_padded_is_not_kept(cached: Any) -> None:
    """Prevents frames of padded names from filling the memory: 4,096 names of megabytes were kept."""
    assert cached(" " * 57 + "ZZZ-USD") == "ZZZ-USD"
    before = cached.cache_info().currsize
    for blanks in (58, 4_000_000):
        with pytest.raises(WrongUse, match="is not a valid product id"):
            cached(" " * blanks + "ZZZ-USD")
    assert cached.cache_info().currsize == before


@given(st.text(max_size=60))
def test_whatever_is_taken_is_a_plain_name(text: str) -> None:
    try:
        product = canonical_product(text)
    except WrongUse:
        return
    assert canonical_product(product) == product
    base, _, quote = product.partition("-")
    assert base.isascii()
    assert (base + quote).isalnum()
    assert product == product.upper()


@pytest.mark.parametrize("text", ["", "kra ken", "a/b", "..", "kraken\0", "K\u212aen", "-a", "a" * 41])
def test_what_cannot_be_a_venue_is_one_sentence(text: str) -> None:
    with pytest.raises(WrongUse, match="is not a valid venue"):
        canonical_venue(text)

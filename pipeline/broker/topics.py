"""Names of namespaces and topics: `<tenant>/<namespace>/<venue>.<product>`, lower case, one dot.

A namespace is a kind of data with its schema, policies, consumer and table. Current brokers refuse slashes in the local
name, hence `btc-usd`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import canonical_product
from schemas.fields import ASSET


@dataclass(frozen=True)
class Namespace:
    """A namespace and its policies. Retention applies to acknowledged messages."""

    name: str
    schema: str | None  # the .avsc of its topics; None: each topic has its own
    retention_minutes: int
    retention_mb: int


WEEK = 7 * 24 * 60
NAMESPACES = (
    Namespace("trades", "trades", WEEK, 10 * 1024),
    Namespace("tickers", "ticker", WEEK, 10 * 1024),
    Namespace("quotes", "quotes", 24 * 60, 5 * 1024),
    Namespace("candles", "candles", WEEK, 10 * 1024),
    Namespace("control", None, WEEK, 1024),
    Namespace("dead-letters", "dead_letter", WEEK, 10 * 1024),
)
GAPS_TOPIC = "gaps"
HEADS_TOPIC = "heads"
_LOCAL = re.compile(r"(?P<venue>[a-z0-9\-]+)\.(?P<product>[a-z0-9]+-[a-z0-9]+)")


def local_name(venue: str, product_id: str) -> str:
    """`kraken`, `BTC-USD` -> `kraken.btc-usd`."""
    return f"{venue.lower()}.{canonical_product(product_id).lower()}"


def full_name(tenant: str, namespace: str, local: str) -> str:
    return f"persistent://{tenant}/{namespace}/{local}"


def topic_of(tenant: str, namespace: str, venue: str, product_id: str) -> str:
    """Return the full topic name of a product's data."""
    return full_name(tenant, namespace, local_name(venue, product_id))


def venue_and_product(topic: str) -> tuple[str, str]:
    """`persistent://t/trades/kraken.btc-usd[-partition-3]` -> (`kraken`, `BTC-USD`). Raises `BadData`."""
    local = re.sub(r"-partition-\d+$", "", topic.rsplit("/", 1)[-1])
    match = _LOCAL.fullmatch(local)
    if match is None:
        raise BadData("topic", f"topic {topic} is not named <venue>.<product>")
    return match["venue"], match["product"].upper()


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def check_address(topic: str, venue: str, product_id: str, asset_class: str) -> None:
    """Raise `BadData` if venue or product are not the topic's, or one of the three is invalid."""
    if (venue, product_id) != venue_and_product(topic):
        raise BadData("topic", f"message of {venue:.40} {product_id:.40} on {topic}")
    try:
        good = canonical_product(product_id) == product_id
    except WrongUse:
        good = False
    if not good:
        raise BadData("product", f"{product_id!r} is not a canonical product id")
    if problem := ASSET.problem(asset_class):
        raise BadData(ASSET.reason, problem)

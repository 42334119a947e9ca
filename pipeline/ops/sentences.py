"""Problems as sentences, for `scripts/status` and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.core.programs import BY_NAME
from pipeline.ops.claim import UNITS, not_known
from venues.adapter import Proof

if TYPE_CHECKING:
    from pipeline.ops import collect

# Venues send a ticker with nearly every trade; if tickers are this far behind the product's trades, they have stopped.
TICKERS_WITHIN_S = 300.0
# A candle is final after its second look, a minute or two after its close.
CANDLES_WITHIN, CANDLES_WITHIN_S = 5, 600.0


def down(name: str, port: int, supervised: str | None, ended: bool, error: Exception | None) -> str:
    """Why a program gives no `/health`. `supervised`: its state, by supervisord; `ended`: in order."""
    if supervised is None:
        return "not running"
    if error is not None:
        return f"running, but not answering on port {port}: {type(error).__name__}"
    if ended:  # by SIGTERM: supervisord starts only what failed again
        return f"it was stopped; supervisorctl start programs:{name} starts it again"
    return f"supervisord says {supervised.lower()}"


def of_products(products: Sequence[collect.ProductState]) -> list[str]:
    """Sentences about products with a problem."""
    return [
        f"{one.program} {one.product_id} is {one.state}" + (f": {one.reason}" if one.reason else "") for one in products
    ]


def missing(stored: Sequence[collect.InstrumentState]) -> list[str]:
    """A sentence per instrument with missing data, and per live one whose completeness is unknown."""
    found = [
        f"{one.venue} {one.product_id}: {one.missing:,} {UNITS[Proof(one.proof)]} missing"
        for one in stored
        if one.missing and one.proof
    ]
    return found + [
        f"{one.venue} {one.product_id}: completeness is {not_known(one.proven_until)}"
        " (neither stream nor REST confirms the newest trade)"
        for one in stored
        if one.unknown
    ]


def silent(stored: Sequence[collect.InstrumentState], candles: Sequence[collect.CandleState]) -> list[str]:
    """Sentences about data that stopped: tickers behind their product's trades, candles behind the clock."""
    newest = {(one.venue, one.product_id): one for one in stored if one.kind == "trades" and one.live}
    found = []
    for one in stored:
        trades = newest.get((one.venue, one.product_id))
        if one.kind != "tickers" or not trades or one.age_s is None or trades.age_s is None:
            continue
        if one.age_s - trades.age_s > TICKERS_WITHIN_S:
            found.append(f"{one.venue} {one.product_id}: the newest ticker is {one.age_s:.0f} s old")
    if BY_NAME["exchange-candles"].enabled:
        for candle in candles:
            late_s = CANDLES_WITHIN * candle.granularity_s + CANDLES_WITHIN_S
            if candle.behind_s is not None and candle.behind_s > late_s:
                name = f"{candle.venue} {candle.product_id}"
                found.append(f"{name}: its candles are final up to {candle.behind_s / 60:.0f} min ago only")
    return found

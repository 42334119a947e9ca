"""The registry of venues: every folder of `venues/` with an `adapter.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from pipeline.core.errors import BadData
from pipeline.core.products import canonical_product, canonical_venue
from pipeline.core.settings import PROJECT, venue_sections
from venues.adapter import Adapter, Proof, Vendor


@cache
def vendors() -> dict[str, Vendor]:
    """Return all venues by name, including those whose data a separate program loads."""
    names = sorted(file.parent.name for file in (PROJECT / "venues").glob("*/adapter.py"))
    return {name: import_module(f"venues.{name}.adapter").ADAPTER for name in names}


@cache
def adapters() -> dict[str, Adapter[Any]]:
    """Return the live venues by name, in the order of their ports."""
    return {name: adapter_of(name) for name in venue_sections()}


def adapter_of(name: str) -> Adapter[Any]:
    made: Adapter[Any] = import_module(f"venues.{name}.adapter").ADAPTER
    return made


def proof_of(venue: str) -> Proof | None:
    """Return how completeness of a venue is proven; None for an unknown venue, which cannot be proven complete."""
    known = vendors().get(venue)
    return None if known is None else known.proof


def check_kind(namespace: str, venue: str) -> None:
    """Raise `BadData` for ticks of a kind that the venue does not have.

    Where hours are the proof, the ledger of hours accounts for all rows and candles: a ticker among them would falsify
    what counts as complete, and candles of trades would be shown in place of those of quotes. Conversely, hours of
    another venue would replace its tickers. Nothing of an unknown venue is ever called complete, so anything goes.
    """
    proof = proof_of(venue)
    if proof is not None and (proof is Proof.HOURS) != (namespace == "quotes"):
        raise BadData("kind", f"{venue} has no {namespace}")


def product_at(venue: str, text: str) -> str:
    """Return the canonical product id, resolving the venue's asset names (Kraken's `XDG/USD` is `DOGE-USD`). Raises
    `WrongUse`."""
    known = vendors().get(canonical_venue(venue))
    return canonical_product(text, {} if known is None else known.aliases)

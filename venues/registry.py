"""The venues there are: every folder of `venues/` that has an `adapter.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from pipeline.core.products import canonical_product, canonical_venue
from pipeline.core.settings import PROJECT, venue_sections
from venues.adapter import Adapter, Proof, Vendor


@cache
def vendors() -> dict[str, Vendor]:
    """All of them by name: the live venues, and those whose data a program of its own loads."""
    names = sorted(file.parent.name for file in (PROJECT / "venues").glob("*/adapter.py"))
    return {name: import_module(f"venues.{name}.adapter").ADAPTER for name in names}


@cache
def adapters() -> dict[str, Adapter[Any]]:
    """The live venues by name, in the order of their ports."""
    return {name: adapter_of(name) for name in venue_sections()}


def adapter_of(name: str) -> Adapter[Any]:
    made: Adapter[Any] = import_module(f"venues.{name}.adapter").ADAPTER
    return made


def proof_of(venue: str) -> Proof | None:
    """How it is shown that nothing of a venue is missing; None for one that has no folder here: then nobody can show
    it, whatever a message says."""
    known = vendors().get(venue)
    return None if known is None else known.proof


def product_at(venue: str, text: str) -> str:
    """`canonical_product`, which also understands the venue's own names of coins (`XDG/USD` at Kraken is `DOGE-USD`).
    Raises `WrongUse`."""
    known = vendors().get(canonical_venue(venue))
    return canonical_product(text, {} if known is None else known.aliases)

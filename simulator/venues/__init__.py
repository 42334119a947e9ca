"""The simulated venues: every folder here, with a `LISTING` in `listing.py` and a `SITE` in `site.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.listing import Listing

if TYPE_CHECKING:
    from simulator.site import Site  # which needs the listings itself


@cache
def listings() -> dict[str, Listing]:
    """Return how each venue lists products, by the venue's name."""
    names = sorted(file.parent.name for file in Path(__file__).parent.glob("*/listing.py"))
    return {name: import_module(f"simulator.venues.{name}.listing").LISTING for name in names}


@cache
def sites() -> dict[str, Site]:
    """Return what runs for each venue, by its name."""
    return {name: import_module(f"simulator.venues.{name}.site").SITE for name in listings()}


def trading() -> list[str]:
    """Return the names of the venues that trade."""
    return [name for name, listing in listings().items() if listing.decimals]

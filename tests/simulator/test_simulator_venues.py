"""Every venue is played, so that nothing which is started against the simulator reaches a real one."""

from __future__ import annotations

from pathlib import Path

import simulator.venues
from pipeline.core.settings import folder_sections, names_of
from simulator.market import default_products
from simulator.replay import RECORDINGS
from simulator.testing import urls
from simulator.venues import listings, sites, trading
from venues.registry import adapters


def test_every_address_of_a_venue_has_its_place_here() -> None:
    """Prevents a new venue's program, in the demonstration or before the judge, from asking the venue itself."""
    addresses = {
        name
        for section in folder_sections().values()
        for name, field in names_of(section).items()
        if field.endswith(("_url", "urls"))
    }
    keys = {name for listing in listings().values() for name in listing.lets_in}
    assert addresses == set(urls(1)) - keys
    assert set(adapters()) <= {name for name, listing in listings().items() if listing.sockets or listing.lines}


def test_what_has_a_folder_is_played() -> None:
    """Prevents a venue that is listed and never answers."""
    folders = {file.parent.name for file in Path(simulator.venues.__file__).parent.glob("*/__init__.py")}
    assert folders == set(listings()) == set(sites())
    for name, listing in listings().items():
        assert (sites()[name].stream is None) == (not (listing.sockets or listing.lines))
        assert listing.session is None or (RECORDINGS / listing.session).is_file()
    for name in trading():
        products = default_products(name)
        assert {product.base for product in products} == set(listings()[name].decimals)
        assert len({product.symbol for product in products}) == len(products)

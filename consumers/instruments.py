"""The `instruments` table as the writers see it: ids by venue and product, filled from the messages, and how each is
proven from what is known of its venue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import Unavailable
from pipeline.database.connection import Connection
from pipeline.database.instruments import instrument
from pipeline.database.sql import statement
from venues.registry import proof_of, vendors

Name = tuple[str, str]  # venue, product


class OtherDatabase(Unavailable):
    """The remembered ids are not those of this database (any more): it was restored, or another one took over."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a message says about its instrument."""

    venue: str
    product_id: str
    asset_class: str
    price_scale: int | None = None

    @property
    def name(self) -> Name:
        return self.venue, self.product_id


class Instruments:
    """Instrument ids, remembered. Every transaction that uses them says so to `lock`, which proves them."""

    def __init__(self) -> None:
        self._known: dict[Name, tuple[int, int | None]] = {}
        vendors()  # read now: a folder that cannot be imported is no fault of the first message's

    def ids(self, conn: Connection, keys: Iterable[Key]) -> dict[Name, int]:
        """Ids by (venue, product), made where they are new. Outside of the batch's transaction: an instrument may
        stay though its first batch failed."""
        wanted = {key.name: key for key in keys}
        for name in sorted(wanted.keys() - self._known.keys()):
            self._known[name] = self._make(conn, wanted[name])
        return {name: self._known[name][0] for name in wanted}

    def lock(self, conn: Connection, ids: Mapping[Name, int], how: str) -> list[Any]:
        """Lock the rows of these instruments by the statement `how`, whose rows begin with id, venue and product.

        Raises `OtherDatabase` and forgets everything unless each id is still that venue's product: after a restore
        it may be another one's, and trades of SOL would be stored under XAU.
        """
        rows = conn.execute(statement(how), (sorted(ids.values()),)).fetchall()
        if {(row[1], row[2]): row[0] for row in rows} != ids:
            self._known.clear()
            raise OtherDatabase("the instruments of this batch are not the ones in the database")
        return rows

    def known(self, names: Iterable[Name]) -> dict[Name, int]:
        """The ids that are remembered, without a question to the database. From any thread."""
        known = self._known
        return {name: found[0] for name in names if (found := known.get(name))}

    def scale(self, conn: Connection, key: Key) -> int | None:
        """The stored price scale of an instrument; the first message with prices sets it."""
        if key.name not in self._known or self._known[key.name][1] is None:
            self._known[key.name] = self._make(conn, key)
        return self._known[key.name][1]

    def _make(self, conn: Connection, key: Key) -> tuple[int, int | None]:
        # How it is proven we know ourselves: a message could claim anything.
        return instrument(conn, key.venue, key.product_id, key.asset_class, proof_of(key.venue), key.price_scale)

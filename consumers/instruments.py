"""The writers' view of the `instruments` table: ids by venue and product, created from messages.

The kind of proof comes from the venue's adapter, never from a message.
"""

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
    """The cached ids are not those of this database: it was restored or replaced."""


@dataclass(frozen=True, slots=True)
class Key:
    """The instrument that a message names."""

    venue: str
    product_id: str
    asset_class: str
    price_scale: int | None = None

    @property
    def name(self) -> Name:
        return self.venue, self.product_id


class Instruments:
    """A cache of instrument ids. Every transaction must verify the ids it uses by `lock`."""

    def __init__(self) -> None:
        self._known: dict[Name, tuple[int, int | None]] = {}
        vendors()  # import the adapters now: a failure must not be taken for the first message's fault

    def ids(self, conn: Connection, keys: Iterable[Key]) -> dict[Name, int]:
        """Return ids by (venue, product), creating new ones. Call it outside the batch's transaction: an instrument may
        stay even if its first batch fails."""
        wanted = {key.name: key for key in keys}
        for name in sorted(wanted.keys() - self._known.keys()):
            self._known[name] = self._create(conn, wanted[name])
        return {name: self._known[name][0] for name in wanted}

    def lock(self, conn: Connection, ids: Mapping[Name, int], how: str, *values: Any) -> list[Any]:
        """Lock the rows of these instruments by the statement named `how` and return its rows, which start with id,
        venue and product. Its parameters are `values` and the ids.

        Raises `OtherDatabase` and clears the cache unless each id still belongs to its product: after a restore it may
        be another product's, and trades of SOL would be stored under XAU.
        """
        rows = conn.execute(statement(how), (*values, sorted(ids.values()))).fetchall()
        if {(row[1], row[2]): row[0] for row in rows} != ids:
            self._known.clear()
            raise OtherDatabase("the instruments of this batch are not the ones in the database")
        return rows

    def known(self, names: Iterable[Name]) -> dict[Name, int]:
        """Return the cached ids, without a query. Thread-safe."""
        known = self._known
        return {name: found[0] for name in names if (found := known.get(name))}

    def scale(self, conn: Connection, key: Key) -> int | None:
        """Return an instrument's stored price scale; the first message with prices sets it."""
        if key.name not in self._known or self._known[key.name][1] is None:
            self._known[key.name] = self._create(conn, key)
        return self._known[key.name][1]

    def _create(self, conn: Connection, key: Key) -> tuple[int, int | None]:
        return instrument(conn, key.venue, key.product_id, key.asset_class, proof_of(key.venue), key.price_scale)

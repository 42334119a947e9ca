"""The `instruments` table as the writers see it: ids by venue and product, filled from the messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.database import Connection


@dataclass(frozen=True, slots=True)
class Key:
    """What a message says about its instrument."""

    venue: str
    product_id: str
    asset_class: str
    price_scale: int | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.venue, self.product_id


class Instruments:
    """Instrument ids, remembered. `forget` after an error: the database may be another one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, int | None]] = {}

    def forget(self) -> None:
        self._known.clear()

    def ids(self, conn: Connection, keys: Iterable[Key]) -> dict[tuple[str, str], int]:
        """Ids by (venue, product), made where they are new. Outside of the batch's transaction: an instrument may
        stay though its first batch failed."""
        wanted = {key.name: key for key in keys}
        for name in sorted(wanted.keys() - self._known.keys()):
            self._known[name] = self._make(conn, wanted[name])
        return {name: self._known[name][0] for name in wanted}

    def known(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The ids that are remembered, without a question to the database. From any thread."""
        known = self._known
        return {name: found[0] for name in names if (found := known.get(name))}

    def scale(self, conn: Connection, key: Key) -> int | None:
        """The stored price scale of an instrument; the first message of a feed with integers sets it."""
        if key.name not in self._known or self._known[key.name][1] is None:
            self._known[key.name] = self._make(conn, key)
        return self._known[key.name][1]

    def _make(self, conn: Connection, key: Key) -> tuple[int, int | None]:
        with conn.transaction():
            conn.execute(
                """
                INSERT INTO instruments (venue, product_id, asset_class, price_scale) VALUES (%s, %s, %s, %s)
                ON CONFLICT (venue, product_id) DO UPDATE SET price_scale = excluded.price_scale
                WHERE instruments.price_scale IS NULL AND excluded.price_scale IS NOT NULL
                """,
                (key.venue, key.product_id, key.asset_class, key.price_scale),
            )
            row = conn.execute(
                "SELECT instrument_id, price_scale FROM instruments WHERE venue = %s AND product_id = %s",
                (key.venue, key.product_id),
            ).fetchone()
            assert row is not None  # just inserted
            conn.execute("INSERT INTO trade_coverage (instrument_id) VALUES (%s) ON CONFLICT DO NOTHING", (row[0],))
        return int(row[0]), row[1]

"""What the vendor was asked for and does not have: noted in the ledger before the finding is published."""

from __future__ import annotations

import threading

import psycopg

from pipeline.core.errors import Unavailable
from pipeline.core.settings import DatabaseSettings
from pipeline.database.connection import Connection, connect
from pipeline.database.ledger import Ledger
from producers.dukascopy.instruments import VENUE, Instrument
from venues.dukascopy.adapter import ADAPTER


class Looks:
    """Of all threads that ask the vendor, over one connection. A writer believes no finding without its look."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._conn: Connection | None = None

    def note(self, instrument: Instrument, hour_us: int, *, sure: bool) -> None:
        """`sure`: no second look is needed. Raises `Unavailable`, `WrongUse`."""
        with self._lock:
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = connect(self._database, "dukascopy-looks")
                ledger = Ledger(self._conn)
                ledger.looked(VENUE, instrument.product_id, instrument.asset_class, ADAPTER.proof, hour_us, sure=sure)
            except psycopg.Error as error:
                raise Unavailable(f"the ledger does not take what was seen: {' '.join(str(error).split())}") from None

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

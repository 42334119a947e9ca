"""Record looks at hours that the vendor does not have, in the ledger, before the finding is published."""

from __future__ import annotations

import threading

import psycopg

from pipeline.core.errors import Unavailable
from pipeline.core.settings import DatabaseSettings
from pipeline.database.connection import connect
from pipeline.database.ledger import Ledger
from pipeline.database.session import Session
from producers.dukascopy.instruments import VENUE, Instrument
from venues.dukascopy.adapter import ADAPTER


class Looks:
    """Records looks. Thread-safe: one connection for all worker threads. Writers believe no finding without its
    look."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._lock = threading.Lock()
        self._session = Session(lambda: connect(database, "dukascopy-looks"))
        self.close = self._session.close

    def note(self, instrument: Instrument, hour_us: int, *, sure: bool) -> None:
        """Record a look. `sure`: no second look is needed. Raises `Unavailable`, `WrongUse`."""
        with self._lock:
            try:
                ledger = Ledger(self._session.connection())
                ledger.looked(VENUE, instrument.product_id, instrument.asset_class, ADAPTER.proof, hour_us, sure=sure)
            except psycopg.Error as error:
                raise Unavailable(f"the ledger cannot record the look: {' '.join(str(error).split())}") from None

"""What the vendor was asked for and does not have: noted in the ledger before the finding is published."""

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
    """Of all threads that ask the vendor, over one connection. A writer believes no finding without its look."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._lock = threading.Lock()
        self._session = Session(lambda: connect(database, "dukascopy-looks"))
        self.close = self._session.close

    def note(self, instrument: Instrument, hour_us: int, *, sure: bool) -> None:
        """`sure`: no second look is needed. Raises `Unavailable`, `WrongUse`."""
        with self._lock:
            try:
                ledger = Ledger(self._session.connection())
                ledger.looked(VENUE, instrument.product_id, instrument.asset_class, ADAPTER.proof, hour_us, sure=sure)
            except psycopg.Error as error:
                raise Unavailable(f"the ledger does not take what was seen: {' '.join(str(error).split())}") from None

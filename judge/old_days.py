"""Two days of trades from three weeks ago, and what becomes of them: loaded, archived, dropped from the tables, read.

The recorded quotes go the same way. So while faults strike, rows are in the tables, in files, and on their way between.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.archive import tiers
from pipeline.archive.storage import WORK, Folder
from pipeline.core.products import canonical_product
from pipeline.database import query
from pipeline.database.connection import Connection
from simulator.tape import Tape
from simulator.testing import Simulator

VENUE, SYMBOL = "coinbase", "XRP-USD"
KEY = (VENUE, canonical_product(SYMBOL))
LOAD = "load-old-days"
RATE = 0.25  # trades a second: a day has more than the archive calls thin, so it becomes a file of its own
DAYS_AGO, DAYS = 20, 2
# Chunks have seven days: the days' own are older than this, those of the tape are not.
RETENTION_DAYS = 10
QUOTES = {"EUR-USD": 136_741, "BTC-USD": 14_716}  # what the simulator has recorded
_UNARCHIVED = """
    SELECT venue, product_id, kind, from_ts, up_to_date, in_tables FROM archived WHERE from_ts < %s
"""
_TABLE = "SELECT trade_id FROM trades WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s"
_FILES = "SELECT path FROM archived WHERE instrument_id = %s AND kind = 'trades' AND NOT in_tables"
_BOTH = """
    SELECT a.path, count(*) FROM archived a JOIN {table} t ON t.instrument_id = a.instrument_id
        AND t.ts >= a.from_ts AND t.ts < a.to_ts
    WHERE a.kind = %s AND NOT a.in_tables GROUP BY 1
"""


class OldDays:
    """What the tape has of these days, and where it is stored. Thread-safe.

    `claims`: how many claims were compared with rows of which the files alone have some.
    """

    def __init__(self, simulator: Simulator, archive: Path, today: datetime | None = None) -> None:
        midnight = (today or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
        self.start = midnight - timedelta(days=DAYS_AGO)
        self.end = self.start + timedelta(days=DAYS)
        self.tape: Tape = simulator.tape(*KEY)
        self.first = self.tape.last_id_at(_ns(self.start) - 1) + 1
        self.last = self.tape.last_id_at(_ns(self.end) - 1)
        self.claims = 0
        self._archive = archive
        self.storage = Folder(archive)
        self._lock = threading.Lock()

    def load_command(self) -> tuple[str, ...]:
        """The module and arguments of the program that loads them."""
        times = f"{self.start:%Y-%m-%d}", f"{self.end:%Y-%m-%d}"
        return (f"producers.{VENUE}", "--historical", "--products", SYMBOL, "--from", times[0], "--to", times[1])

    def asked(self, conn: Connection) -> bool:
        """Whether the request for them is in the ledger: from then on a claim that they are complete can be a lie."""
        asked = "SELECT NOT isempty(asked) FROM trade_coverage JOIN instruments USING (instrument_id)"
        return bool(query.scalar(conn, f"{asked} WHERE venue = %s AND product_id = %s", KEY))

    def unstored(self, conn: Connection) -> list[int]:
        """Ids that neither table nor files have, as of one moment. Counts as a claim where files alone have some."""
        number = query.scalar(conn, "SELECT instrument_id FROM instruments WHERE venue = %s AND product_id = %s", KEY)
        with tiers.snapshot(conn, "trades"):
            files = query.scalars(conn, _FILES, (number,))
            stored = set(query.scalars(conn, _TABLE, (number, self.first, self.last)))
        for path in files:
            try:
                stored.update(pq.read_table(self._archive / path, columns=["trade_id"])["trade_id"].to_pylist())
            except (OSError, pa.ArrowException):  # what cannot be read is stored nowhere
                continue
        if files:
            with self._lock:
                self.claims += 1
        return [trade_id for trade_id in range(self.first, self.last + 1) if trade_id not in stored]

    # -- at the end ---------------------------------------------------------------------------------------------------

    def unsettled(self, conn: Connection) -> list[str]:
        """Return what is not yet in files alone, files that no sweep removed, and whether there was no claim about
        them."""
        wanted = {(*KEY, "trades"): DAYS, **{("dukascopy", product, "quotes"): 1 for product in QUOTES}}
        found = []
        for venue, product, kind, from_ts, up_to_date, in_tables in conn.execute(_UNARCHIVED, (self.end,)).fetchall():
            if up_to_date and not in_tables:
                wanted[venue, product, kind] = wanted.get((venue, product, kind), 0) - 1
            else:
                what = "still in the tables too" if in_tables else "changed since it was archived"
                found.append(f"{kind} of {venue} {product} {from_ts:%Y-%m-%d} is {what}")
        found += [f"{count} files of {' '.join(name)} are missing" for name, count in wanted.items() if count > 0]
        if orphans := self.orphans(conn):
            found.append(f"{len(orphans)} files of the archive belong to nothing, first {orphans[0]}")
        if not self.claims:
            found.append("the lie detector heard no claim while rows were in files alone")
        return found

    def orphans(self, conn: Connection) -> list[str]:
        """Files of the archive that the ledger does not have, and what was left half written."""
        known = set(query.scalars(conn, "SELECT path FROM archive_files WHERE deleted_at IS NULL"))
        stored = {file.relative_to(self._archive).as_posix() for file in self._archive.glob("main/**/*.parquet")}
        return sorted(stored - known) + sorted(str(file) for file in self._archive.glob(f"{WORK}/*"))

    def doubled(self, conn: Connection) -> list[str]:
        """Spans that are in files alone, by the ledger, and of which the table has rows as well."""
        found = []
        for kind in ("trades", "quotes"):
            for path, count in conn.execute(_BOTH.format(table=kind), (kind,)).fetchall():
                found.append(f"{count} rows of {path} are in the table {kind} as well")
        return found

    def differences(self, read: pa.Table) -> list[str]:
        """What `pipeline.read.trades` gave of the days, exact, against the tape."""
        truth = self.tape.trades(self.first, self.last)
        order = pc.sort_indices(read["trade_id"])
        rows = read.take(order)
        name = " ".join(KEY)
        if rows["trade_id"].to_pylist() != truth.ids.tolist():
            ids = rows["trade_id"].to_pylist()
            missing, doubled = set(truth.ids.tolist()) - set(ids), len(ids) - len(set(ids))
            return [f"{name}: of old days {len(missing)} ids cannot be read, {doubled} are read twice"]
        scales = 10**self.tape.product.price_decimals, 10**self.tape.product.quantity_decimals
        told = zip(
            rows["trade_id"].to_pylist(),
            rows["time"].cast(pa.int64()).to_pylist(),
            rows["price"].to_pylist(),
            rows["quantity"].to_pylist(),
            rows["taker_side"].to_pylist(),
            strict=True,
        )
        for number, (trade_id, ts_us, price, quantity, side) in enumerate(told):
            kept: Any = (price * scales[0], quantity * scales[1], side)
            buy = "buy" if truth.buy[number] else "sell"
            tape = (int(truth.price[number]), int(truth.quantity[number]), buy)
            if kept != tape or abs(int(truth.ts_ns[number]) // 1000 - ts_us) > 2:
                return [f"{name}: trade {trade_id} of an old day is read as {kept} at {ts_us}, on the tape {tape}"]
        return []


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000

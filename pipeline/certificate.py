"""`python -m pipeline.certificate kraken BTC-USD 2026-01-31`: a certificate of one UTC day of an instrument as JSON.

Based on the archive's file and the ledger, see docs/archive.md. The exit code is 0 if the day is complete; otherwise 1,
and `problems` says why.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import click

from pipeline.archive.certificate import certificate
from pipeline.archive.open import need_ledger, open_storage
from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_venue, short
from pipeline.core.runtime import program
from pipeline.core.settings import ArchiveSettings, DatabaseSettings, load
from pipeline.database.connection import connect
from venues.registry import product_at


@click.command()
@click.argument("venue")
@click.argument("product")
@click.argument("day")
@program("certificate", logs=False)
def main(venue: str, product: str, day: str) -> int:
    """Certify what is archived of a product's UTC DAY (2026-01-31), how complete it is, and how that is known."""
    venue = canonical_venue(venue)
    product = product_at(venue, product)
    try:
        start = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    except ValueError:
        raise WrongUse(f"{short(day)} is not a valid day; write it like 2026-01-31.") from None
    with connect(load(DatabaseSettings), "certificate", read_only=True) as conn:
        conn.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        need_ledger(conn)
        made = certificate(conn, open_storage(load(ArchiveSettings)), venue, product, start)
    click.echo(json.dumps(asdict(made), indent=2, default=_text))
    return 0 if made.complete else 1


def _text(value: Any) -> str:
    """Format times in UTC."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    main()

"""`python -m pipeline.restore_ticks`: restore ticks dropped by retention from the archive into the tables.

    python -m pipeline.restore_ticks --venue kraken --product BTC-USD --from 2024-05-01 --to 2024-05-08

Complete spans are restored, each in one transaction and verified against its file, and kept for `--keep-days`; then
retention may drop them again. The files are not changed.
"""

from __future__ import annotations

from datetime import timedelta

import click
from psycopg import sql

from pipeline.archive.ledger import spans
from pipeline.archive.open import open_storage
from pipeline.archive.restore import restore
from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_venue
from pipeline.core.runtime import now_us, program
from pipeline.core.settings import OWNER_ROLE, ArchiveSettings, DatabaseSettings, load
from pipeline.core.times import from_us
from pipeline.database.connection import connect
from pipeline.ops.span import span_of
from venues.registry import product_at


@click.command()
@click.option("--venue", required=True, help="For example kraken.")
@click.option("--product", required=True, help="For example BTC-USD.")
@click.option("--from", "from_", required=True, help="Start (UTC), for example 2024-05-01 or 400_days_ago.")
@click.option("--to", required=True, help="End, exclusive, in the same format.")
@click.option(
    "--keep-days", type=click.IntRange(1, 36_500), default=30, show_default=True, help="Then they may be dropped again."
)
@program("restore-ticks")
def main(venue: str, product: str, from_: str, to: str, keep_days: int) -> int:
    """Restore archived ticks of one product and interval into the tables."""
    venue = canonical_venue(venue)
    product = product_at(venue, product)
    first, last = span_of(from_, to)
    with connect(load(DatabaseSettings), "restore-ticks", role=OWNER_ROLE) as conn:
        conn.execute("SET statement_timeout = 0")
        wanted = spans(
            conn,
            sql.SQL(
                "venue = %(venue)s AND product_id = %(product)s AND kind <> 'exchange_candles'"
                " AND from_ts < %(to)s AND to_ts > %(from)s"
            ),
            {"venue": venue, "product": product, "from": first, "to": last},
        )
        if not wanted:
            raise WrongUse(f"nothing of {venue} {product} is archived in that interval; see the view archived.")
        storage = open_storage(load(ArchiveSettings))
        until = from_us(now_us()) + timedelta(days=keep_days)
        total = 0
        for span in wanted:
            rows = restore(conn, storage, span, until)
            total += rows
            click.echo(f"{span}: {f'{rows:,} rows are back' if rows else 'in the table already'}")
    click.echo(f"{total:,} rows are back in the tables, for {keep_days} days.")
    return 0


if __name__ == "__main__":
    main()

"""`--dry-run`: show what a load would do, from the ledger and the disk only; no requests, nothing is published."""

from __future__ import annotations

from collections.abc import Iterable

import click
import psycopg

from pipeline.core.errors import Unavailable
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings
from pipeline.core.times import duration, us_to_iso
from pipeline.database.connection import connect
from pipeline.database.ledger import Hour, Ledger
from producers.dukascopy.command import Request
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.instruments import VENUE, Instrument
from producers.dukascopy.plan import Plan, Rules, make_plan
from venues.dukascopy.settings import DukascopySettings

# Where the ledger has no hour of the instrument yet: EURUSD in 2019 had 5,700 quotes an hour.
QUOTES_AN_HOUR = 5_700
# Bytes per quote, measured on the recordings (bi5 compressed, JSON as sent).
BYTES = {"bi5": 5.3, "folder": 5.3, "json": 28.0, "auto": 28.0}


def dry_run(
    feed: Feed,
    settings: DukascopySettings,
    database: DatabaseSettings,
    instruments: Iterable[Instrument],
    request: Request,
    *,
    refetch: bool,
) -> int:
    """Print a line per instrument and the total. Raises `Unavailable` if the database does not answer."""
    rules = Rules(now_us(), int(settings.empty_confirm_seconds * 1e6), refetch)
    calls = quotes = size = 0.0
    for instrument in instruments:
        span, _ = request.span(instrument, now_us())
        known = _known(database, instrument, span)
        plan = make_plan(instrument, feed, span, known, rules, {})
        here = sum(feed.at_hand(instrument, hour_us) for hour_us in plan.ask)
        asked = 0 if feed.free else len(plan.ask) - here + len(plan.running)
        counted = [hour.ticks for hour in known.values() if hour.ticks]
        expected = (sum(counted) / len(counted) if counted else QUOTES_AN_HOUR) * (len(plan.ask) + len(plan.running))
        calls, quotes = calls + asked, quotes + expected
        size += expected * BYTES[feed.name] * (asked / max(1, len(plan.ask) + len(plan.running)))
        click.echo(_line(instrument, span, plan, here, asked))
    start_rate = min(settings.start_rate, settings.max_rate)
    slowest, fastest = duration(calls / start_rate), duration(calls / settings.max_rate)
    click.echo(
        f"in total: {calls:,.0f} calls, about {quotes / 1e6:,.1f} M quotes, {size / 1e6:,.0f} MB to download; "
        + (
            f"{fastest} at {settings.max_rate:g} calls per second, {slowest} at {start_rate:g}."
            if calls
            else "no requests needed."
        )
    )
    return 0


def _line(instrument: Instrument, span: range, plan: Plan, here: int, asked: int) -> str:
    if not len(span):
        return f"{instrument.symbol}: nothing, its first quote is from {us_to_iso(instrument.first_tick_us or 0)}"
    return (
        f"{instrument.symbol}: {us_to_iso(span[0])} to {us_to_iso(span.stop)}, {len(span):,} hours: "
        f"{len(plan.accounted):,} accounted for, {len(plan.closed):,} closed market, {here:,} on disk, "
        f"{asked:,} calls, {len(plan.waiting):,} not available now"
    )


def _known(database: DatabaseSettings, instrument: Instrument, span: range) -> dict[int, Hour]:
    with connect(database, "dukascopy dry run", read_only=True) as conn:
        try:
            return Ledger(conn).quote_hours(VENUE, instrument.product_id, span.start, span.stop)
        except psycopg.errors.UndefinedTable:
            return {}  # a new database
        except psycopg.OperationalError as error:
            raise Unavailable(f"the database went away: {str(error).strip()}") from None

"""`--check-candles`: compare our minute candles of the bid with the vendor's."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import click
from tenacity import wait_none

from pipeline.core import events
from pipeline.core.errors import Refused, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.retry import retry
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings
from pipeline.core.stopping import Stopped
from pipeline.core.times import DAY_US, from_us
from pipeline.database.connection import Connection, connect
from producers.dukascopy.command import Request
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.feeds.web import TRIES
from producers.dukascopy.instruments import VENUE, Instrument
from schemas.columns import Column

SHOWN = 10
# Our candles by minute of the day: prices as integers of the instrument's scale, volume in hundredths of a unit.
_OURS = """
    SELECT extract(epoch FROM c.bucket - %(day)s)::bigint / 60, trunc(open * f)::bigint, trunc(high * f)::bigint,
           trunc(low * f)::bigint, trunc(close * f)::bigint, round(bid_size * 100)::bigint
    FROM quote_candle_1m c JOIN instruments i USING (instrument_id), (SELECT 10::numeric ^ %(scale)s::int AS f) scale
    WHERE i.venue = %(venue)s AND i.product_id = %(product)s
      AND c.bucket >= %(day)s AND c.bucket < %(day)s + interval '1 day'
"""


@dataclass(frozen=True)
class Difference:
    """A minute whose candles differ; None where one side has no candle."""

    minute: int
    ours: tuple[int, ...] | None
    vendors: tuple[int, ...] | None


def compare(ours: dict[int, tuple[int, ...]], vendors: dict[int, tuple[int, ...]]) -> list[Difference]:
    """Return differences in open, high, low and close. The volume (last) is not compared: bi5 sizes are rounded."""
    return [
        Difference(minute, ours.get(minute), vendors.get(minute))
        for minute in sorted(ours.keys() | vendors.keys())
        if (ours.get(minute) or ())[:4] != (vendors.get(minute) or ())[:4]
    ]


def by_minute(table: Column) -> dict[int, tuple[int, ...]]:
    """Turn rows of minute, open, high, low, close, volume into a dict by minute."""
    return {column[0]: tuple(column[1:]) for column in table.T.tolist()}


def check_candles(
    feed: Feed, database: DatabaseSettings, instruments: Iterable[Instrument], request: Request, stop: threading.Event
) -> int:
    """Compare day by day and print the differences. Returns 1 if anything differs or could not be compared."""
    bad = False
    with connect(database, "dukascopy candles", read_only=True) as conn:
        for instrument in instruments:
            span, _ = request.span(instrument, now_us())
            first = span.start - span.start % DAY_US
            for day_us in range(first, span.stop, DAY_US):
                if stop.is_set():
                    return 1
                try:
                    bad |= not _day(feed, conn, instrument, day_us, range(span.start, span.stop), stop)
                except Stopped:
                    return 1
    return 1 if bad else 0


def _day(feed: Feed, conn: Connection, instrument: Instrument, day_us: int, span: range, stop: threading.Event) -> bool:
    name = f"{instrument.symbol} {from_us(day_us):%Y-%m-%d}"
    try:
        vendors = by_minute(_vendor_candles(feed, instrument, day_us, stop))
    except Refused as error:
        click.echo(f"{name}: not compared, {error}")
        return False
    values = {"venue": VENUE, "product": instrument.product_id, "scale": instrument.price_scale, "day": from_us(day_us)}
    ours = {minute: tuple(candle) for minute, *candle in conn.execute(_OURS, values)}
    inside = {m for m in ours.keys() | vendors.keys() if day_us + m * 60_000_000 in span}
    ours, vendors = ({m: c for m, c in side.items() if m in inside} for side in (ours, vendors))
    found = compare(ours, vendors)
    same_volume = sum(ours[m][4] == vendors[m][4] for m in ours.keys() & vendors.keys())
    equal = len(inside) - len(found)
    click.echo(f"{name}: {equal} of {len(inside)} minutes equal, {same_volume} of them in volume too")
    for difference in found[:SHOWN]:
        hour, minute = divmod(difference.minute, 60)
        click.echo(f"  {hour:02d}:{minute:02d} ours {difference.ours}, the vendor's {difference.vendors}")
    if len(found) > SHOWN:
        click.echo(f"  and {len(found) - SHOWN} more")
    return not found


def _vendor_candles(feed: Feed, instrument: Instrument, day_us: int, stop: threading.Event) -> Column:
    """Request the vendor's candles, retrying without a pause: the feed limits the rate itself."""

    def log_retry(error: BaseException, _seconds: float) -> None:
        get_logger().warning(events.REQUEST_RETRY, product=instrument.product_id, error=str(error))

    return retry(
        lambda: feed.minutes(instrument, day_us, "BID"),
        stop,
        retry_on=Unavailable,
        wait=wait_none(),
        attempts=TRIES,
        before_wait=log_retry,
    )

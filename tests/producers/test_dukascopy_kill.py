"""A load that is killed again and again."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np

from pipeline.core.times import HOUR_US, to_us
from producers.dukascopy.calendar import closed
from producers.dukascopy.feeds import bi5
from producers.dukascopy.instruments import catalogue
from simulator.venues.dukascopy.hours import Quotes, encode_bi5
from tests.dukascopy_help import load, rows, states, us, vendor, warm, writer
from tests.venue_help import running, until

Environment = Callable[..., dict[str, str]]
KILLS = 10
MONTH = range(us("2019-02-01"), us("2019-03-01"), HOUR_US)


def _quotes(number: int) -> Quotes:
    """Twenty quotes, different in each hour."""
    step = np.arange(20, dtype=np.int64)
    bid = 114_000 + 7 * number + step
    size = np.full(20, 1.5)
    return Quotes(step * 150_000 + number, bid + 3, bid, size, size)


def test_a_month_killed_ten_times_ends_exact(env: Environment, database_url: str, tmp_path: Path) -> None:
    """Prevents quotes lost or doubled by a death, and hours fetched again that were stored or on disk already."""
    euro = catalogue()["EURUSD"]
    open_hours = [hour_us for hour_us in MONTH if not closed(euro, hour_us)]
    made = {bi5.hour_path("EURUSD", hour_us): _quotes(number) for number, hour_us in enumerate(open_hours)}
    bodies = {path: encode_bi5(quotes) for path, quotes in made.items()}
    with vendor(bodies.get) as feed:
        environment = env(DUKASCOPY_BI5_URL=feed.url, DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=200)
        cached = Path(environment["STATE_DIR"]) / "dukascopy" / "bi5"
        flags = ("--instruments", "EURUSD", "--from", "2019-02-01", "--to", "2019-03-01")
        warm(environment, "bi5", 200)

        def there() -> set[str]:
            kept = {str(file.relative_to(cached).with_suffix("")) for file in cached.rglob("*.bi5.z")}
            stored = rows(database_url, "SELECT hour FROM quote_hours WHERE state = 'present'")
            return kept | {bi5.hour_path("EURUSD", to_us(hour)) for (hour,) in stored}

        before: set[str] = set()
        with writer(environment):
            for kill in range(1, KILLS + 1):
                first = len(feed.asked)
                with running("producers.dukascopy", environment, tmp_path, *flags) as program:  # its end is kill -9
                    wanted = kill * len(open_hours) * 0.9 / KILLS
                    until(f"{wanted} requests", lambda wanted=wanted: len(feed.asked) >= wanted, 120)
                    assert program.process.poll() is None
                assert not before & set(feed.asked[first:])
                before = there()
            first = len(feed.asked)
            done = load(environment, *flags)
            assert done.returncode == 0, done.stdout + done.stderr
            assert not before & set(feed.asked[first:])
        assert len(feed.asked) <= len(open_hours) + 4 * KILLS  # one answer for each connection may have been lost
        assert len(before) >= len(open_hours) / 2  # the kills struck in the middle
        assert states(database_url, "EUR-USD") == {"present": len(open_hours), "closed": len(MONTH) - len(open_hours)}
    bid, ask = (sum(int(getattr(one, side).sum()) for one in made.values()) for side in ("bid", "ask"))
    assert rows(database_url, "SELECT count(*), count(DISTINCT ts), sum(bid), sum(ask) FROM quotes") == [
        (20 * len(made), 20 * len(made), Decimal(bid) / 100_000, Decimal(ask) / 100_000)
    ]

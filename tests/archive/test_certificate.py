"""A certificate says what is so: every test but the first takes something away and wants it said."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.archive.certificate import Certificate, certificate
from pipeline.archive.storage import Folder
from pipeline.core.errors import WrongUse
from pipeline.core.times import from_us
from tests.archive_help import EURUSD_DAY, EURUSD_QUOTES, NOW, archive_all, archive_in, store_eurusd_day
from tests.environment import Environment
from tests.messages import T0_US, received, store, ticker_record, trade, trades_record

DAY_US = 86_400_000_000
START_US = T0_US // DAY_US * DAY_US
DAY = from_us(START_US)
OF_DAY = 1500


def store_days(conn: Any, origin: str = "history") -> None:
    """Three days of trades with ids from 1; the second day has 1501 to 3000."""
    trades = [trade(1 + n, START_US + (n - OF_DAY) * (DAY_US // OF_DAY)) for n in range(3 * OF_DAY)]
    store(Trades(), conn, [received("trades", trades_record(trades, origin=origin))])


def archived(conn: Any, folder: Path) -> None:
    assert archive_all(conn, archive_in(conn, folder), NOW) == []


def of_trades(conn: Any, folder: Path, day: datetime = DAY) -> Certificate:
    return certificate(conn, Folder(folder), "kraken", "BTC-USD", day)


def test_a_complete_day_of_trades(conn: Any, tmp_path: Path) -> None:
    store_days(conn)
    archived(conn, tmp_path)
    made = of_trades(conn, tmp_path)
    assert (made.complete, made.problems) == (True, [])
    assert made.trades is not None
    told = {name: made.trades[name] for name in ("rows", "first_id", "last_id", "repaired", "explained")}
    assert told == {"rows": OF_DAY, "first_id": 1501, "last_id": 3000, "repaired": 0, "explained": {}}
    assert made.trades["file"]["rows"] > OF_DAY, "a thin instrument's file is a month; the hash is the day's"
    assert made.trades["hash"] != made.trades["file"]["hash"]
    assert (made.quotes, made.samples, made.clock_offset_ms, made.delay_ms) == (None, None, None, None)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("UPDATE trade_coverage SET ids = ids - '{[2000,2003)}'", "ids 2000 to 2002 are neither stored nor explained"),
        ("UPDATE trade_coverage SET ids = ids - '{[1,1501)}'", "ids 1500 to 1500 are neither stored nor explained"),
        ("UPDATE trade_coverage SET ids = ids - '{[3001,9999)}'", "ids 3001 to 3001 are neither stored nor explained"),
        ("UPDATE archive_spans SET changes = changes + 1", "rows changed since the file was written"),
        ("UPDATE archive_files SET hash = repeat('0', 64)", "does not hold what was archived"),
        ("UPDATE archive_files SET path = path || 'x'", "cannot be read"),
        ("UPDATE trade_candle_1h SET ticks = ticks + 1", "the candles are of "),
        ("DELETE FROM archive_files", "trades: not archived"),
        ("DELETE FROM trade_coverage", "the ledger does not know them"),
    ],
)
def test_what_is_not_so_is_said(conn: Any, tmp_path: Path, damage: str, problem: str) -> None:
    """A paper that says "complete" whatever happened is worth less than none."""
    store_days(conn)
    archived(conn, tmp_path)
    conn.execute(damage)
    made = of_trades(conn, tmp_path)
    assert not made.complete
    assert problem in "; ".join(made.problems)


def test_a_day_on_which_the_stream_began_is_not_complete(conn: Any, tmp_path: Path) -> None:
    """The ledger has no gap on it, because what came before the first id was never asked for."""
    trades = [trade(7_000 + n, START_US + DAY_US // 2 + n * 1_000_000) for n in range(OF_DAY)]
    later = [trade(7_000 + OF_DAY + n, START_US + DAY_US + n * 1_000_000) for n in range(10)]
    store(Trades(), conn, [received("trades", trades_record([*trades, *later], origin="history"))])
    archived(conn, tmp_path)
    assert of_trades(conn, tmp_path).problems == ["trades: ids 6999 to 6999 are neither stored nor explained"]


def test_a_day_without_trades_of_a_thin_month_is_complete_only_between_its_neighbours(
    conn: Any, tmp_path: Path
) -> None:
    """Prevents "complete" of days on which nobody listened, because a file of their month is there."""
    for first, days in ((101, 0), (111, 2)):
        trades = [trade(first + n, START_US + days * DAY_US + n) for n in range(10)]
        store(Trades(), conn, [received("trades", trades_record(trades, origin="history"))])
    archived(conn, tmp_path)

    def problems(days: int) -> list[str]:
        made = of_trades(conn, tmp_path, DAY + timedelta(days=days))
        assert made.trades is not None
        assert (made.trades["rows"], made.complete) == (0, not made.problems)
        return made.problems

    assert problems(-4) == ["trades: ids 100 to 100 are neither stored nor explained"], "before the stream began"
    assert problems(1) == [], "110 is of the day before and 111 of the day after"
    assert problems(5) == ["trades: ids 121 to 121 are neither stored nor explained"], "nobody knows of a later one"
    conn.execute("INSERT INTO trade_heads VALUES (1, 120, now(), 120, now(), 'rest')")
    assert problems(5) == [], "the venue said later that there was none"
    conn.execute("UPDATE trade_coverage SET ids = ids - '{[110,111)}'")
    assert problems(1) == ["trades: ids 110 to 110 are neither stored nor explained"]


def test_explained_ids_are_counted_by_reason_when_somebody_signed_for_them(conn: Any, tmp_path: Path) -> None:
    store_days(conn)
    archived(conn, tmp_path)
    conn.execute("UPDATE trade_coverage SET ids = ids - '{[2000,2003)}'")
    hole = (
        "INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at) VALUES (1, 1999, 2002, %s, now())"
    )
    conn.execute(hole, ("venue_has_none",))
    assert not of_trades(conn, tmp_path).complete, "a claim that nobody signed"
    conn.execute("UPDATE holes SET signed_at = now()")
    made = of_trades(conn, tmp_path)
    assert made.trades is not None
    assert (made.problems, made.trades["explained"]) == ([], {"venue_has_none": 3})


def test_a_day_of_quotes_is_complete_by_its_hours(conn: Any, tmp_path: Path) -> None:
    store_eurusd_day(conn)
    archived(conn, tmp_path)
    made = certificate(conn, Folder(tmp_path), "dukascopy", "EUR-USD", EURUSD_DAY)
    assert made.quotes is not None
    assert (made.complete, made.quotes["rows"], made.quotes["hours"]) == (True, EURUSD_QUOTES, {"present": 24})
    assert made.quotes["hash"] == made.quotes["file"]["hash"], "a file of one day has its hash"
    conn.execute("UPDATE quote_hours SET revision = 1 WHERE extract(hour FROM hour) < 3")
    made = certificate(conn, Folder(tmp_path), "dukascopy", "EUR-USD", EURUSD_DAY)
    assert made.quotes is not None
    assert made.quotes["repaired"] == 3
    conn.execute("DELETE FROM quote_hours WHERE extract(hour FROM hour) = 5")
    conn.execute("UPDATE quote_hours SET state = 'seen_empty', ticks = 0 WHERE extract(hour FROM hour) = 6")
    made = certificate(conn, Folder(tmp_path), "dukascopy", "EUR-USD", EURUSD_DAY)
    for problem in ("quotes: 1 hours are not_there", "quotes: 1 hours are seen_empty", "the ledger's hours have"):
        assert problem in "; ".join(made.problems)


def test_a_day_of_which_every_hour_was_closed_is_complete_without_a_file(conn: Any, tmp_path: Path) -> None:
    store_eurusd_day(conn)
    conn.execute(
        "INSERT INTO quote_hours (instrument_id, hour, state, ticks, feed, fetched_at, checksum)"
        " SELECT 1, hour + INTERVAL '1 day', 'closed', 0, feed, fetched_at, 0 FROM quote_hours"
    )
    made = certificate(conn, Folder(tmp_path), "dukascopy", "EUR-USD", EURUSD_DAY + timedelta(days=1))
    assert made.quotes is not None
    assert (made.complete, made.quotes["rows"], made.quotes["explained"]) == (True, 0, {"closed": 24})


def test_trades_that_are_proven_by_time_are_certified_by_time(conn: Any, tmp_path: Path) -> None:
    """Ids with gaps are no fault of a venue that numbers differently, and ids without gaps no proof of one."""
    store_days(conn)
    archived(conn, tmp_path)
    conn.execute("UPDATE instruments SET proof = 'time windows'")
    conn.execute("UPDATE trade_coverage SET ids = ids - '{[2000,2003)}'")
    assert of_trades(conn, tmp_path).problems == ["trades: times 00:00:00 to 00:00:00 are neither stored nor explained"]
    window = "INSERT INTO trade_windows (instrument_id, proven) VALUES (1, tstzmultirange(tstzrange(%s, %s)))"
    conn.execute(window, (DAY, DAY + timedelta(hours=23)))
    assert of_trades(conn, tmp_path).problems == ["trades: times 23:00:00 to 00:00:00 are neither stored nor explained"]
    conn.execute(
        "INSERT INTO holes (instrument_id, from_ts, to_ts, reason, confirmed_at, signed_at)"
        " VALUES (1, %s, %s, 'unreachable', now(), now())",
        (DAY + timedelta(hours=22), DAY + timedelta(days=2)),
    )
    made = of_trades(conn, tmp_path)
    assert made.trades is not None
    assert (made.problems, made.trades["explained"]) == ([], {"unreachable": 3600})
    for proof in ("sampled", None):
        conn.execute("UPDATE instruments SET proof = %s", (proof,))
        assert of_trades(conn, tmp_path).problems == ["trades: nobody can show that none is missing"]


def test_of_samples_nothing_is_claimed(conn: Any, tmp_path: Path) -> None:
    assert store(Tickers(), conn, [received("ticker", ticker_record())]) == (1, [])
    archived(conn, tmp_path)
    made = of_trades(conn, tmp_path)
    assert not made.complete
    assert made.samples is not None
    assert made.samples["rows"] == 1
    assert made.problems == ["only tickers are stored, which are samples: nobody can say that they are all"]


def test_a_day_that_is_not_over_or_of_nobody_is_not_certified(conn: Any, tmp_path: Path) -> None:
    store_days(conn)
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert of_trades(conn, tmp_path, tomorrow).problems == ["the day is not over", "no data of that day is stored"]
    with pytest.raises(WrongUse, match="no data of kraken ETH-USD is stored"):
        certificate(conn, Folder(tmp_path), "kraken", "ETH-USD", DAY)


def test_the_command_says_it_in_json_and_by_its_exit_code(
    conn: Any, env: Environment, python: str, tmp_path: Path
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipeline.certificate", *arguments]
        return subprocess.run(command, env=env(ARCHIVE_PATH=tmp_path), capture_output=True, text=True, timeout=120)

    store_days(conn)
    early = run("kraken", "xbt/usd", f"{DAY:%Y-%m-%d}")
    assert (early.returncode, json.loads(early.stdout)["problems"]) == (1, ["trades: not archived"])
    archived(conn, tmp_path)
    good = run("kraken", "xbt/usd", f"{DAY:%Y-%m-%d}")
    assert good.returncode == 0, good.stderr
    made = json.loads(good.stdout)
    assert (made["complete"], made["product"], made["trades"]["first_id"]) == (True, "BTC-USD", 1501)
    assert made["trades"]["first_ts"].endswith("+00:00")
    for wrong in (("kraken", "BTC-USD", "yesterday"), ("kra/ken", "BTC-USD", "2024-01-01"), ("kraken", "BTC-USD")):
        answer = run(*wrong)
        assert (answer.returncode, answer.stdout) == (2, "")

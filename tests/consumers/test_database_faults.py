"""Prevents good rows that become dead letters, and programs that do not come back, because of what others do to the
database: a statement that is cancelled, a server without memory, a chunk that is dropped, a time of read only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from pipeline.verify import verify
from schemas import encode
from tests.environment import Environment
from tests.messages import T0_US, hour_bytes, ticker_record, trade, trades_record
from tests.venue_help import running
from tests.writer_help import Rig, until

WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'trades-writer' AND wait_event_type = 'Lock'
"""


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's session."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


FIRST_S = T0_US // 1_000_000 + 5


def ticker(number: int) -> bytes:
    return encode("ticker", ticker_record(FIRST_S * 1_000_000 + number))


@pytest.mark.parametrize("count", [1, 3])
def test_a_statement_that_somebody_cancels_is_tried_again(rig: Rig, other: psycopg.Connection[Any], count: int) -> None:
    """Prevents tickers, which nobody can fetch again, that became letters because an administrator's job cancels
    whatever waits for long."""
    cancelled = 0
    with other.transaction():
        other.execute("LOCK TABLE quotes IN ACCESS EXCLUSIVE MODE")
        for number in range(count):
            rig.send("ticker", ticker(number))
        while cancelled < 5:  # at each try to store them; three cancels of a batch are one too many
            (pid,) = until(lambda: rig.conn.execute(WAITING).fetchone())
            rig.conn.execute("SELECT pg_cancel_backend(%s)", (pid,))
            until(lambda pid=pid: (pid,) not in rig.conn.execute(WAITING).fetchall())
            cancelled += 1
    rig.settled()
    stored = f"SELECT count(*) FROM quotes WHERE extract(epoch FROM ts) BETWEEN {FIRST_S} AND {FIRST_S + 1}"
    assert rig.one(stored) == count
    assert rig.letters() == []


def refusing(times: int, code: str) -> str:
    """A trigger that stands for a server that fails so many times, whatever is rolled back."""
    return f"""
        CREATE SEQUENCE failures;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('failures') <= {times} THEN RAISE 'not now' USING ERRCODE = '{code}'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION fail()"""


@pytest.mark.parametrize(("times", "code"), [(6, "out_of_memory"), (1, "internal_error")])
@pytest.mark.parametrize("count", [1, 3])
def test_what_passes_does_not_cost_a_row(rig: Rig, times: int, code: str, count: int) -> None:
    """Prevents letters about good trades: a server that others leave no memory, and errors of the kinds that a bad row
    has, which one look cannot tell from it."""
    rig.conn.execute(refusing(times, code))
    rig.send("trades", encode("trades", trades_record([trade(7000 + number) for number in range(count)])))
    until(lambda: rig.one(f"SELECT count(*) = {count} FROM trades WHERE trade_id BETWEEN 7000 AND 7999"))
    rig.settled()
    assert rig.letters() == []
    assert rig.writer.state.report()[1]["why"] == ["all well"]


def test_a_chunk_that_somebody_drops_meanwhile_costs_no_row(rig: Rig, other: psycopg.Connection[Any]) -> None:
    """Prevents letters about good trades that met a retention policy of somebody else's."""
    with other.transaction():
        other.execute("SELECT drop_chunks('trades', now())")
        rig.send("trades", encode("trades", trades_record([trade(7000)])))
        until(lambda: rig.conn.execute(WAITING).fetchone())
    until(lambda: rig.one("SELECT count(*) = 1 FROM trades WHERE trade_id = 7000"))
    assert rig.letters() == []


def test_the_gap_filler_goes_on_after_a_time_of_read_only(
    env: Environment, other: psycopg.Connection[Any], database_url: str, tmp_path: Path
) -> None:
    """Prevents windows that are never compared again, because their thread met an error that it did not know."""
    venues = ("KRAKEN", "COINBASE", "BINANCE", "BITSTAMP", "OANDA")
    settings = env(**{f"{name}_ENABLED": "false" for name in venues})
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    with running("consumers.gap_filler", settings, tmp_path) as filler:
        until(lambda: filler.health()[0] == 200)
        other.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        end_sessions(other, "gap-filler")
        until(lambda: any("read-only" in line.get("error", "") for line in filler.lines("database.retry")))
        until(lambda: filler.health()[1]["ledger_read_age_s"] > 3)
        other.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
        end_sessions(other, "gap-filler")
        until(lambda: filler.health()[1]["ledger_read_age_s"] < 2)
        assert filler.process.poll() is None


def end_sessions(conn: psycopg.Connection[Any], program: str) -> None:
    conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = %s",
        (program,),
    )


@pytest.mark.parametrize("count", [3, 300])
def test_rows_that_somebodys_trigger_leaves_out_are_in_no_ledger(rig: Rig, count: int) -> None:
    """Prevents "complete", and candles of trades that nobody has, because a trigger skipped rows without an error."""
    for table, column in (("trades", "price"), ("quotes", "bid")):
        rig.conn.execute(f"""
            CREATE FUNCTION skip_{table}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.{column} = 6.66 THEN RETURN NULL; END IF; RETURN NEW; END $$;
            CREATE TRIGGER skip BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION skip_{table}()""")
    ids = range(7000, 7000 + count)
    rig.send("trades", encode("trades", trades_record([trade(i, price="6.66" if i == 7001 else "5") for i in ids])))
    for number in range(count):
        bid = "6.66" if number == 1 else "5"
        rig.send("ticker", encode("ticker", ticker_record(T0_US + 5_000_000 + number, bid=bid, ask="7")))
    prices = [666_000 if number == 1 else 500_000 for number in range(count)]
    rig.send("quotes", hour_bytes(list(range(count)), prices, hour_start_us=T0_US + 36_000_000_000))
    for name in ("trades", "ticker", "quotes"):
        rig.send_good(name)
    rig.settled()
    letters = Counter((letter["topic"].split("/")[-2], letter["reason"]) for letter in rig.letters())
    assert letters == {("trades", "database"): 1, ("tickers", "database"): 1, ("quotes", "database"): 1}
    assert [text for verdict in verify(rig.conn) for text in verdict.wrong if "asked for" not in text] == []
    assert rig.one("SELECT bool_or(ids @> 7001::bigint) FROM trade_coverage") is False

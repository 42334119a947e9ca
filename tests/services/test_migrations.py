"""Bringing the tables up to date in databases in which others work too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.settings import DatabaseSettings, load
from pipeline.database.connection import connect
from pipeline.database.migrate import _attempt, database_when_ready, migrate
from tests.writer_help import until


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def older(conn: psycopg.Connection[Any]) -> None:
    """The views are those of an earlier version: the next start makes them anew."""
    conn.execute("UPDATE views_text SET text = 'older'")


def test_views_that_people_made_from_ours_survive_an_upgrade(conn: psycopg.Connection[Any]) -> None:
    """Prevents a pipeline that does not start after an upgrade, because somebody has a view of his own, and rights
    that are lost with each."""
    conn.execute("CREATE VIEW theirs AS SELECT * FROM candles_1h JOIN completeness USING (venue, product_id)")
    conn.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM consensus_candles_1d")
    conn.execute("CREATE ROLE bob_of_the_test")
    try:
        conn.execute("GRANT SELECT ON candles_1h TO bob_of_the_test")
        older(conn)
        assert migrate(conn) == []
        assert conn.execute("SELECT count(*) FROM theirs, kept").fetchone() == (0,)
        rights = conn.execute("SELECT has_table_privilege('bob_of_the_test', 'candles_1h', 'SELECT')").fetchone()
        assert rights == (True,)
    finally:
        conn.execute("DROP OWNED BY bob_of_the_test; DROP ROLE bob_of_the_test")


def test_a_view_whose_columns_change_is_made_anew_and_names_who_is_in_the_way(
    conn: psycopg.Connection[Any], in_env: Callable[..., None], database_url: str
) -> None:
    """Prevents both: an upgrade that fails because a view lost a column, and one that drops what people made."""
    in_env(DATABASE_URL=database_url)
    conn.execute("DROP VIEW completeness; CREATE VIEW completeness AS SELECT 1 AS of_an_earlier_version")
    conn.execute("CREATE VIEW theirs AS SELECT * FROM completeness")
    older(conn)
    with pytest.raises(Unavailable, match="view theirs depends on view completeness"):
        _attempt(load(DatabaseSettings))
    conn.execute("DROP VIEW theirs")
    _attempt(load(DatabaseSettings))
    assert conn.execute("SELECT venue, missing FROM completeness").fetchall() == []


def test_tables_of_a_later_version_are_left_alone(conn: psycopg.Connection[Any]) -> None:
    """Prevents an older program that puts its views in place of the present ones, and writes what its tables were."""
    conn.execute("INSERT INTO migrations (number, name) VALUES (9000, '9000_of_next_year')")
    older(conn)
    with pytest.raises(WrongUse, match="migration 9000"):
        migrate(conn)
    assert conn.execute("SELECT text FROM views_text").fetchone() == ("older",)


def test_a_database_that_is_read_only_is_waited_for(
    conn: psycopg.Connection[Any], in_env: Callable[..., None], database_url: str
) -> None:
    """Prevents programs that end with a traceback, again and again, while an administrator copies the database or a
    standby is not promoted yet."""
    in_env(DATABASE_URL=database_url)
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    conn.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    with pytest.raises(Unavailable, match="read-only"):
        _attempt(load(DatabaseSettings))
    stop = threading.Event()
    waiting = threading.Thread(target=database_when_ready, args=(load(DatabaseSettings), stop))
    waiting.start()
    conn.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    until(lambda: not waiting.is_alive())
    connect(load(DatabaseSettings), "test").close()

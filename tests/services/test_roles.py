"""Prevents: rows lost, disk filled or starts held up by somebody who may only read.

The server and its extension let everybody do more than our roles say. Seen: 136,741 quotes were deleted by a reader
through _timescaledb_functions.drop_chunk.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline.core.errors import Unavailable
from pipeline.database.migrate import migrate, protect
from pipeline.services.instance import Instance
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record

Login = Callable[[str], psycopg.Connection[Any]]
WEEK_US = 7 * 86_400_000_000


@pytest.fixture
def login(login: Login) -> Login:
    """The same, and what takes long is refused."""

    def enter(role: str) -> psycopg.Connection[Any]:
        connection = login(role)
        connection.execute("SET statement_timeout = '10s'")
        return connection

    return enter


@pytest.fixture
def filled(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection to a database with trades in two chunks, and quotes."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record([trade(1), trade(2, T0_US + 2 * WEEK_US)]))])
        store(Hours(), conn, [received("quotes", hour_bytes([1, 2], [114543, 114544]))])
        yield conn


def _state(conn: psycopg.Connection[Any]) -> list[Any]:
    """Everything that a function of the extension could have changed."""
    queries = (
        "SELECT * FROM trades ORDER BY trade_id",
        "SELECT * FROM quotes ORDER BY ts",
        "SELECT oid::regclass::text, relkind, relowner, relacl, reloptions, reltablespace FROM pg_class ORDER BY 1",
        "SELECT * FROM _timescaledb_catalog.chunk ORDER BY id",
        "SELECT * FROM _timescaledb_catalog.dimension ORDER BY id",
        "SELECT * FROM _timescaledb_catalog.hypertable ORDER BY id",
        "SELECT * FROM _timescaledb_config.bgw_job",
        "SELECT * FROM _timescaledb_catalog.chunk_constraint ORDER BY 1, 4",
        "SELECT count(*) FROM pg_constraint",
        "SELECT * FROM _timescaledb_catalog.tablespace",
    )
    return [conn.execute(query).fetchall() for query in queries]


def _values(kind: str, chunks: list[str]) -> list[Any]:
    """Arguments of a type with which a function would do something, and NULL only for what has no text."""
    return {
        "regclass": [chunks[0], "trades"],
        "oid": [f"{chunks[0]}"],
        "integer": [1, 2],
        "bigint": [1],
        "boolean": [True],
        "name": ["trades", "ts"],
        "text": ["trades"],
        "jsonb": ['{"ts": [0, 604800000000]}'],
        "interval": ["1 day"],
        "regclass[]": ["{" + ",".join(chunks[:2]) + "}"],
        "tid": ["(0,1)"],
    }.get(kind, [None])


def _calls(conn: psycopg.Connection[Any]) -> list[tuple[str, sql.Composed, tuple[Any, ...]]]:
    """Every way to call what has "chunk" in its name: (name, statement, arguments)."""
    chunks = [row[0] for row in conn.execute("SELECT show_chunks('trades')::text")]
    found = conn.execute(
        """
        SELECT pronamespace::regnamespace::text, proname, prokind, ARRAY(
            SELECT format_type(kind, NULL) FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a (kind, n) ORDER BY n)
        FROM pg_proc WHERE proname LIKE '%chunk%' AND prorettype <> 'trigger'::regtype
        """
    ).fetchall()
    calls = []
    for schema, name, kind, types in found:
        options = []
        for one in types:
            polymorphic = one in ('"any"', "anyelement")
            cast = sql.SQL("%s::timestamptz") if polymorphic else sql.SQL("%s::") + sql.SQL(one)
            if one == "oid":
                cast = sql.SQL("%s::regclass::oid")
            options.append([(cast, value) for value in (["2100-01-01"] if polymorphic else _values(one, chunks))])
        verb = sql.SQL("CALL {}({})" if kind == "p" else "SELECT * FROM {}({})")
        for chosen in itertools.islice(itertools.product(*options), 12):
            call = verb.format(sql.Identifier(schema, name), sql.SQL(", ").join(cast for cast, _ in chosen))
            calls.append((f"{schema}.{name}", call, tuple(value for _, value in chosen)))
    return calls


@pytest.mark.parametrize("role", ["market_data_reader", "market_data_writer"])
def test_no_function_about_chunks_changes_anything(filled: psycopg.Connection[Any], login: Login, role: str) -> None:
    """Each of them, of whatever version of the extension this is, with arguments that mean something."""
    conn, before = login(role), _state(filled)
    calls = _calls(filled)
    assert len({name for name, _, _ in calls}) > 20
    refused = set()
    for name, call, arguments in calls:
        try:
            conn.execute(call, arguments)
        except errors.InsufficientPrivilege:
            refused.add(name)
        except psycopg.Error:
            assert not conn.closed, f"{name} ended the server's process"
    assert _state(filled) == before
    assert {"public.drop_chunks", "_timescaledb_functions.drop_chunk", "_timescaledb_internal.drop_chunk"} <= refused


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT create_hypertable('instruments', 'created_at', migrate_data => true)",
        "SELECT add_job('now', '1 h')",
        "SELECT set_chunk_time_interval('trades', INTERVAL '1 hour')",
        "SELECT timescaledb_pre_restore()",
        "SELECT _timescaledb_functions.stop_background_workers()",
        "SELECT attach_tablespace('pg_default', 'trades')",
        "CREATE TEMP TABLE mine (x int)",
        "SELECT * INTO TEMP mine FROM trades",
        "CREATE TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_creat(-1)",
        "SELECT lo_unlink(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1, 2)",
        "SELECT pg_advisory_xact_lock(1)",
        "BEGIN; LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE trades IN ROW EXCLUSIVE MODE",
        "SELECT * FROM trades FOR UPDATE",
        "SELECT * FROM migrations FOR SHARE",
        "COPY trades TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off",
        "UPDATE watchlist SET symbol = 'A/B'",
    ],
)
def test_a_reader_writes_holds_and_keeps_nothing(filled: psycopg.Connection[Any], login: Login, statement: Any) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        login("market_data_reader").execute(statement)


def test_a_reader_may_ask_whatever_it_likes(filled: psycopg.Connection[Any], login: Login) -> None:
    """Prevents rights that were taken from everybody and are needed to look."""
    conn = login("market_data_reader")
    for query in (
        "SELECT time_bucket('1 day', ts), first(price, ts), last(price, ts) FROM trades GROUP BY 1",
        "SELECT hypertable_size('trades'), approximate_row_count('trades')",
        "SELECT * FROM hypertable_detailed_size('trades')",
        "SELECT show_chunks('trades')",
        "SELECT * FROM timescaledb_information.chunks",
        "SELECT * FROM timescaledb_information.hypertables",
        "SELECT * FROM timescaledb_information.dimensions",
        "SELECT * FROM chunks_detailed_size('quotes')",
        "SELECT histogram(price::float8, 0, 10, 5) FROM trades",
        "EXPLAIN SELECT * FROM trades WHERE ts > now()",
        "SELECT * FROM completeness",
        "SELECT * FROM candles_1h",
    ):
        conn.execute(query)  # type: ignore[call-overload]


def test_a_reader_cannot_hold_up_a_start(
    services: Instance, filled: psycopg.Connection[Any], login: Login, database_url: str
) -> None:
    """Prevents: one session that holds a lock, and no program that starts ever again."""
    conn = login("market_data_reader")
    conn.execute("BEGIN; LOCK TABLE migrations, trades IN ACCESS SHARE MODE")
    with psycopg.connect(database_url, autocommit=True, options="-c lock_timeout=5s") as starting:
        filled.execute("UPDATE views_text SET text = 'older'")
        assert migrate(starting) == []
    conn.execute("ROLLBACK")


def test_an_update_of_the_extension_gives_nothing_back(filled: psycopg.Connection[Any], login: Login) -> None:
    """Prevents: rights that come again with the next version; it grants its functions to everybody anew."""
    filled.execute("GRANT EXECUTE ON FUNCTION _timescaledb_functions.drop_chunk(regclass) TO PUBLIC")
    migrate(filled)
    chunk = filled.execute("SELECT show_chunks('trades')::text LIMIT 1").fetchall()[0][0]
    with pytest.raises(errors.InsufficientPrivilege):
        login("market_data_reader").execute("SELECT _timescaledb_functions.drop_chunk(%s::regclass)", (chunk,))


def test_who_is_no_superuser_migrates_all_the_same(filled: psycopg.Connection[Any], login: Login) -> None:
    """Prevents a writer that does not start because it may not take rights from others."""
    conn = login("market_data_writer")
    assert migrate(conn) == []
    protect(conn)


def test_many_start_at_once_on_an_empty_database(services: Instance) -> None:
    """Prevents: programs that fail, or tables made half, because all of them find nothing and make it."""
    name = f"test_{secrets.token_hex(5)}"
    applied: list[str] = []
    failed: list[BaseException] = []
    with psycopg.connect(services.database_url(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:

            def one() -> None:
                while True:
                    try:
                        with psycopg.connect(services.database_url(name), autocommit=True) as mine:
                            applied.extend(migrate(mine))
                        return
                    except Unavailable:  # as `database_when_ready` does
                        continue
                    except BaseException as error:
                        failed.append(error)
                        return

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert len(applied) == len(set(applied)) >= 2
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

"""What tests of the services share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.writer_help import until

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
Login = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def login(database_url: str) -> Iterator[Login]:
    """`login(role)`: a connection as a new user that has only this role."""
    made: list[tuple[str, psycopg.Connection[Any]]] = []

    def enter(role: str) -> psycopg.Connection[Any]:
        name, password = f"user_{secrets.token_hex(5)}", secrets.token_hex(8)
        with psycopg.connect(database_url, autocommit=True) as conn:
            made_of = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
            conn.execute(made_of.format(sql.Identifier(name), sql.Literal(password), sql.Identifier(role)))
        connection: psycopg.Connection[Any] = psycopg.connect(
            database_url, user=name, password=password, autocommit=True
        )
        made.append((name, connection))
        return connection

    yield enter
    for name, connection in made:
        connection.close()
        with psycopg.connect(database_url, autocommit=True) as conn:
            # The server takes the session's temporary tables away after the client has gone.
            until(lambda conn=conn, name=name: conn.execute(_SESSIONS, (name,)).fetchone() == (0,))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

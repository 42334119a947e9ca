"""Typed query results: a dataclass per query, whose fields are the query's columns by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from psycopg.abc import QueryNoTemplate
from psycopg.rows import kwargs_row, scalar_row

from pipeline.database.connection import Connection

T = TypeVar("T")
Values = Sequence[Any] | Mapping[str, Any] | None


def rows(conn: Connection, of: Callable[..., T], query: QueryNoTemplate, values: Values = None) -> list[T]:
    """Return all rows, each as `of(**columns)`: a dataclass, or a function with the columns as parameters."""
    with conn.cursor(row_factory=kwargs_row(of)) as cursor:
        return cursor.execute(query, values).fetchall()


def row(conn: Connection, of: Callable[..., T], query: QueryNoTemplate, values: Values = None) -> T | None:
    """Return the first row as `of(**columns)`, or None."""
    with conn.cursor(row_factory=kwargs_row(of)) as cursor:
        return cursor.execute(query, values).fetchone()


def scalars(conn: Connection, query: QueryNoTemplate, values: Values = None) -> list[Any]:
    """Return the first column of all rows."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, values).fetchall()


def scalar(conn: Connection, query: QueryNoTemplate, values: Values = None) -> Any:
    """Return the first column of the first row, or None."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, values).fetchone()

"""What tests of consumers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from consumers.candles import Candles
from tests.consensus_help import Store, message
from tests.messages import store


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC") as made:
        yield made


@pytest.fixture
def keep(conn: psycopg.Connection[Any]) -> Store:
    """Store records as one batch: (new rows, letters)."""
    kind = Candles()
    return lambda *records: store(kind, conn, [message(content) for content in records])

"""What tests of consumers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from consumers.candles import Candles
from consumers.gap_filler import heads
from tests.consensus_help import Store, message
from tests.heads_help import Deaf
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


@pytest.fixture
def filler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    made = Deaf()
    monkeypatch.setattr(heads, "seconds", lambda: made.clock)
    yield made
    made.heads.close()

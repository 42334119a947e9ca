"""The archive in object storage: the same promises, and a server that fails loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from consumers.archive import prepared
from pipeline import duckdb, read, restore_ticks
from pipeline.archive import catalog
from pipeline.archive.archive import Archive, Mismatch
from pipeline.archive.audit import audit
from pipeline.archive.due import due
from pipeline.archive.open import open_storage
from pipeline.archive.s3 import Bucket
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.settings import ArchiveSettings, load
from pipeline.retention import Dropped, drop_old
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    NOW,
    archive_all,
    drop_from_tables,
    rows_everywhere,
    store_eurusd_day,
)


@pytest.fixture(autouse=True)
def _in_bucket(object_storage: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**object_storage, "STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def conn(database_url: str) -> Iterator[Any]:
    with psycopg.connect(database_url, autocommit=True) as made:
        store_eurusd_day(made)
        assert catalog.lock(made)
        yield made


@pytest.fixture
def archive(conn: Any) -> Archive:
    return prepared(conn, load(ArchiveSettings))


def test_a_day_is_archived_dropped_read_and_brought_back(
    conn: Any, archive: Archive, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    storage = open_storage(load(ArchiveSettings))
    rows = rows_everywhere(conn, archive, "quotes")
    assert archive_all(conn, archive) == []
    assert catalog.data_path(conn) == "s3://ticks/market-data/"
    assert list(storage.files()) == [conn.execute("SELECT path FROM archived").fetchone()[0]]
    assert list(storage.work.glob("*")) == []
    assert drop_old(conn, 30, storage) == Dropped(1)
    assert rows_everywhere(conn, archive, "quotes") == rows
    arguments = ["--venue", "dukascopy", "--product", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05"]
    assert CliRunner().invoke(restore_ticks.main, arguments, catch_exceptions=False).exit_code == 0
    assert conn.execute("SELECT count(*) FROM quotes").fetchone() == (EURUSD_QUOTES,)


def test_every_reader_finds_the_files(
    conn: Any, archive: Archive, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    in_tables = read.quotes("dukascopy", "EURUSD", exact=True).arrow()
    assert archive_all(conn, archive) == []
    storage = open_storage(load(ArchiveSettings))
    assert drop_old(conn, 30, storage) == Dropped(1)
    assert read.quotes("dukascopy", "EURUSD", exact=True).arrow().equals(in_tables)
    lazy = read.scan_quotes("dukascopy", "EURUSD", exact=True)
    assert lazy.collect().equals(read.quotes("dukascopy", "EURUSD", exact=True).polars())
    assert [one.wrong for one in audit(conn, storage)] == [[]]
    assert duckdb.connect().execute("SELECT count(*) FROM quotes").fetchone() == (EURUSD_QUOTES,)


def test_a_storage_that_does_not_answer_is_said_where_the_tables_do_not_have_the_rows(
    conn: Any, archive: Archive, database_url: str, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """Prevents an error of the network library in a notebook, also where the tables have all that was asked for."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert archive_all(conn, archive) == []
    monkeypatch.setenv("ARCHIVE_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert len(read.quotes("dukascopy", "EURUSD")) == EURUSD_QUOTES
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=1))
    with pytest.raises(Unavailable, match="s3://ticks/market-data/ does not give at the moment"):
        read.quotes("dukascopy", "EURUSD")


@pytest.mark.parametrize("call", ["keep", "open"])
def test_a_server_that_fails_in_the_middle_loses_nothing(
    conn: Any, archive: Archive, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("503 Slow Down")

    (one,) = due(conn, NOW)
    with monkeypatch.context() as patched:
        patched.setattr(Bucket, call, fail)
        patched.setattr(Bucket, "remove", fail)
        with pytest.raises((OSError, Mismatch), match="503"):
            archive.archive(one.span)
    assert conn.execute("SELECT count(*) FROM archived").fetchone() == (0,)
    assert archive.sweep() == 1
    assert list(open_storage(load(ArchiveSettings)).files()) == []
    assert archive_all(conn, archive) == []


def test_an_object_that_is_cut_off_is_not_committed(
    conn: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = due(conn, NOW)
    real = Bucket.keep

    def keep(self: Bucket, file: Path, path: str) -> None:
        file.write_bytes(file.read_bytes()[:-100])
        real(self, file, path)

    monkeypatch.setattr(Bucket, "keep", keep)
    with pytest.raises(Mismatch):
        archive.archive(one.span)
    assert conn.execute("SELECT count(*) FROM archived").fetchone() == (0,)
    assert list(open_storage(load(ArchiveSettings)).files()) == []


def test_wrong_keys_and_addresses_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_PATH", "s3://")
    with pytest.raises(WrongUse, match="s3://bucket/prefix"):
        load(ArchiveSettings)
    monkeypatch.setenv("ARCHIVE_PATH", "s3://ticks")
    monkeypatch.delenv("ARCHIVE_S3_SECRET_KEY")
    with pytest.raises(WrongUse, match="set both or none"):
        open_storage(load(ArchiveSettings))

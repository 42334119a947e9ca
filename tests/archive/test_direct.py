"""Whole days of old quotes go straight into files, committed with candles and ledger, or are stored as usual."""

from __future__ import annotations

import queue
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from consumers.quote_hours import Hours
from consumers.reader import Reader, Ready
from consumers.sink import Batch
from consumers.subscription import Message
from pipeline.archive import catalog, files, ledger
from pipeline.archive.archive import Archive
from pipeline.archive.layout import Span, day_of
from pipeline.archive.storage import Folder
from pipeline.verify import verify
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    archive_all,
    archive_in,
    eurusd_messages,
    lake,
    rows_everywhere,
    store_eurusd_day,
)
from tests.fresh_database import fresh_database
from tests.messages import store


@pytest.fixture(autouse=True)
def _direct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_PATH", str(tmp_path / "archive"))
    monkeypatch.setenv("ARCHIVE_DIRECT_DAYS", "30")


def looking(conn: Any, tmp_path: Path) -> Archive:
    return Archive(conn, Folder(tmp_path / "archive"))


def in_table(conn: Any) -> int:
    (count,) = conn.execute("SELECT count(*) FROM quotes").fetchone()
    return int(count)


def test_a_whole_day_is_in_a_file_with_candles_and_ledger_as_if_it_had_been_stored(
    conn: Any, database_url: str, services: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("SET ROLE market_data_writer")
    store_eurusd_day(conn)
    conn.execute("RESET ROLE")
    assert in_table(conn) == 0
    assert conn.execute("SELECT rows, in_tables, up_to_date FROM archived").fetchall() == [(EURUSD_QUOTES, False, True)]
    rows = rows_everywhere(conn, looking(conn, tmp_path), "quotes")
    with fresh_database(services) as url, psycopg.connect(url, autocommit=True) as other:
        monkeypatch.setenv("ARCHIVE_DIRECT_DAYS", "0")
        store_eurusd_day(other)
        assert in_table(other) == EURUSD_QUOTES
        assert rows == rows_everywhere(other, looking(other, tmp_path), "quotes")
        for query in (
            "TABLE quote_candle_1m",
            "TABLE quote_candle_1h",
            "SELECT hour, state, ticks, checksum FROM quote_hours",
        ):
            assert sorted(conn.execute(query).fetchall()) == sorted(other.execute(query).fetchall())
    assert [text for verdict in verify(conn) for text in verdict.wrong] == []
    archive = archive_in(conn, tmp_path / "archive")
    assert archive_all(conn, archive) == []
    assert archive.sweep(grace_s=0) == 0
    with lake(database_url, tmp_path) as duck:
        assert duck.execute("SELECT count(*) FROM lake.quotes").fetchone() == (EURUSD_QUOTES,)


def test_what_came_before_or_is_not_whole_or_not_old_goes_the_ordinary_way(conn: Any, tmp_path: Path) -> None:
    messages = eurusd_messages(EURUSD_DAY)
    store(Hours(), conn, messages[:1])
    store(Hours(), conn, messages)  # one hour of the day is in the table already
    assert in_table(conn) == EURUSD_QUOTES
    next_day = eurusd_messages(EURUSD_DAY + timedelta(days=1))
    store(Hours(), conn, next_day[:23])
    assert in_table(conn) > EURUSD_QUOTES
    store(Hours(), conn, next_day[23:])
    assert in_table(conn) == 2 * EURUSD_QUOTES
    assert conn.execute("SELECT count(*) FROM archive_files").fetchone() == (0,)
    assert list((tmp_path / "archive").rglob("*.parquet")) == []


def test_a_day_that_comes_again_changes_nothing(conn: Any, tmp_path: Path) -> None:
    messages = eurusd_messages(EURUSD_DAY)
    assert store(Hours(), conn, messages) == (EURUSD_QUOTES, [])
    assert store(Hours(), conn, messages) == (0, [])
    assert in_table(conn) == 0
    assert conn.execute("SELECT count(*), max(revision) FROM archive_files").fetchone() == (1, 0)
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == 1


def test_nothing_is_written_where_readers_do_not_look(
    conn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changed ARCHIVE_PATH and did not move the files."""
    assert store(Hours(), conn, eurusd_messages(EURUSD_DAY)) == (EURUSD_QUOTES, [])
    monkeypatch.setenv("ARCHIVE_PATH", str(tmp_path / "elsewhere"))
    assert store(Hours(), conn, eurusd_messages(EURUSD_DAY + timedelta(days=1))) == (EURUSD_QUOTES, [])
    assert in_table(conn) == EURUSD_QUOTES
    assert not (tmp_path / "elsewhere").exists()
    assert ledger.left_behind(conn) == []


def test_a_full_disk_sends_the_day_into_the_table(conn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "keep", full)
    assert store(Hours(), conn, eurusd_messages(EURUSD_DAY)) == (EURUSD_QUOTES, [])
    assert in_table(conn) == EURUSD_QUOTES
    assert ledger.left_behind(conn) == []
    assert [file for file in (tmp_path / "archive").rglob("*") if file.is_file()] == []


def test_a_batch_that_fails_after_its_files_leaves_nothing_that_counts(
    conn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection may break at the commit, and then it is not known whether the file counts: the ledger knows."""

    def broken(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("the connection is lost")

    sink = Hours()
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "commit_direct", broken)
        with pytest.raises(psycopg.OperationalError):
            store(sink, conn, eurusd_messages(EURUSD_DAY))
    assert len(ledger.left_behind(conn)) == 1
    assert store(sink, conn, eurusd_messages(EURUSD_DAY)) == (EURUSD_QUOTES, [])
    assert in_table(conn) == EURUSD_QUOTES
    archive = archive_in(conn, tmp_path / "archive")
    assert archive.sweep() == 1
    assert archive_all(conn, archive) == []
    assert conn.execute("SELECT rows, in_tables FROM archived").fetchall() == [(EURUSD_QUOTES, True)]
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == 1


def test_a_sweep_leaves_files_alone_that_a_writer_is_about_to_commit(
    conn: Any, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.write

    def write(*arguments: Any) -> files.Written:
        made = real(*arguments)
        with psycopg.connect(database_url, autocommit=True) as other:
            assert len(ledger.left_behind(other)) == 1
            archive = archive_in(other, tmp_path / "archive")
            assert archive.sweep(grace_s=0) == 0
            catalog.unlock(other)
        return made

    monkeypatch.setattr(files, "write", write)
    assert store(Hours(), conn, eurusd_messages(EURUSD_DAY)) == (EURUSD_QUOTES, [])
    assert conn.execute("SELECT rows, in_tables FROM archived").fetchall() == [(EURUSD_QUOTES, False)]


class Fed:
    """A subscription that gives what it was fed, one message at a time."""

    chunk = 1

    def __init__(self, messages: list[Message]) -> None:
        self._messages = iter(messages)

    def open(self) -> bool:
        return True

    def renew(self) -> bool:
        return True

    def receive(self, timeout_ms: int) -> Message | None:
        message = next(self._messages, None)
        if message is None:
            threading.Event().wait(timeout_ms / 1000)
        return message

    def receive_more(self) -> list[Message]:
        message = next(self._messages, None)
        return [message] if message else []


def batches(messages: list[Message], sink: Hours) -> list[Batch]:
    """What a reader makes of messages, until nothing is left."""
    handover: queue.Queue[Ready] = queue.Queue(maxsize=1)
    idle, stop = threading.Event(), threading.Event()
    idle.set()
    reader = Reader(cast(Any, Fed(messages)), sink, handover, idle, stop)
    reader.start()
    found: list[Batch] = []
    try:
        while sum(batch.messages for batch in found) < len(messages):
            found.append(handover.get(timeout=30).batch)
            idle.set()
    finally:
        stop.set()
        reader.join()
    assert reader.failure is None
    return found


def test_a_batch_ends_with_a_day_and_what_is_left_of_one_waits_no_longer_than_it_must() -> None:
    """A day that two batches have halves of goes through the table."""
    sink = Hours()
    messages = [message for n in range(3) for message in eurusd_messages(EURUSD_DAY + timedelta(days=n))]
    messages += eurusd_messages(EURUSD_DAY + timedelta(days=3))[:5]
    found = batches(messages, sink)
    assert [message for batch in found for part in batch.parts for message in [part.message]] == messages
    assert [len(batch.parts) % 24 for batch in found] == [0] * (len(found) - 1) + [5]
    last = [batch.last_of_topic[messages[0].topic] for batch in found]
    assert last == [batch.parts[-1].message for batch in found], "nothing that is held is acknowledged"


def test_a_refused_message_behind_one_that_is_held_is_acknowledged_with_it() -> None:
    messages = eurusd_messages()
    broken = Message(messages[0].topic, b"no hour at all", None)
    found = batches([*messages[:24], *eurusd_messages(EURUSD_DAY + timedelta(days=1))[:2], broken], Hours())
    topic = messages[0].topic
    assert [batch.last_of_topic for batch in found if batch.last_of_topic] == [{topic: messages[23]}, {topic: broken}]
    assert sum(len(list(batch.letters)) for batch in found) == 1
    assert (len(found[-1].parts), found[-1].messages) == (2, 3)


def test_a_writer_that_starts_again_clears_what_it_left_and_takes_the_day_up(conn: Any, tmp_path: Path) -> None:
    """A day that was begun once must not go through the table for ever."""
    store(Hours(), conn, eurusd_messages(EURUSD_DAY + timedelta(days=1))[:1])  # makes the instrument
    (number,) = conn.execute("SELECT instrument_id FROM instruments").fetchone()
    span = Span(number, "dukascopy", "EUR-USD", "quotes", *day_of(EURUSD_DAY))
    left = tmp_path / "archive" / ledger.begin_direct(conn, [span])[span].path
    left.parent.mkdir(parents=True)
    left.touch()
    assert store(Hours(), conn, eurusd_messages(EURUSD_DAY)) == (EURUSD_QUOTES, [])
    assert not left.exists()
    assert conn.execute("SELECT rows, in_tables FROM archived").fetchall() == [(EURUSD_QUOTES, False)]

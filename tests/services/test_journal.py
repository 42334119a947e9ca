"""The end of the bookie's journal after a kill: what is half is cut off, what is whole stays.

Prevents a topic that never loads again, because the broker was killed while it wrote a message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pulsar
import pytest

from pipeline.services.bookie_journal_repair import HEADER, MAGIC, PADDING, crc32c, mend
from pipeline.services.instance import Instance

LONGER = 4096  # how far the file is made longer beforehand; the bookie takes megabytes


def entry(ledger: int, number: int, payload: bytes) -> bytes:
    metadata = struct.pack(">qqqq", ledger, number, number - 1, len(payload))
    record = metadata + struct.pack(">I", crc32c(metadata + payload)) + payload
    return struct.pack(">i", len(record)) + record


def note(ledger: int) -> bytes:
    record = struct.pack(">qqi", ledger, -0x1000, 20) + bytes(range(1, 21))
    return struct.pack(">i", len(record)) + record


def filled(group: bytes) -> bytes:
    """A group of records, filled up as the bookie does."""
    missing = -len(group) % HEADER
    if missing and missing < 8:
        missing += HEADER
    return group + (struct.pack(">ii", PADDING, missing - 8) + bytes(missing - 8) if missing else b"")


WHOLE = filled(note(7) + entry(7, 0, b"a" * 300)) + filled(entry(7, 1, b"b" * 900))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    (tmp_path / "18a.txn").write_bytes(b"an older one, longer in the alphabet")
    return tmp_path / "19a1.txn"


def write(file: Path, records: bytes, cut: int | None = None, version: int = 6) -> int:
    """`records` behind those of `WHOLE`, of which only `cut` bytes were written; returns where they begin."""
    head = (MAGIC + struct.pack(">i", version)).ljust(HEADER, b"\0") + WHOLE
    file.write_bytes((head + records[:cut]).ljust(len(head + records) + LONGER, b"\0"))
    return len(head)


def test_what_is_whole_stays(journal: Path) -> None:
    """Prevents an acknowledged message from being cut off."""
    for records in (b"", entry(7, 2, b"c" * 100), filled(note(8)), filled(entry(7, 2, b"c" * 2000)), entry(7, 2, b"")):
        write(journal, records)
        before = journal.read_bytes()
        assert mend(journal.parent) is None
        assert journal.read_bytes() == before


@pytest.mark.parametrize("cut", [40, 512, 1000])
def test_half_an_entry_is_cut_off(journal: Path, cut: int) -> None:
    at = write(journal, entry(7, 2, b"c" * 1100), cut)
    before = journal.read_bytes()
    done = mend(journal.parent)
    assert done is not None
    assert f"{journal.name} at {at}" in done
    assert journal.read_bytes() == before[:at]
    assert mend(journal.parent) is None, "and it is done once"


def test_half_a_note_is_cut_off(journal: Path) -> None:
    """Prevents a ledger that has zeros for a password, which it would refuse the right one with."""
    at = write(journal, note(8), 30)
    assert mend(journal.parent) is not None
    assert journal.stat().st_size == at


def test_half_a_length_is_cut_off(journal: Path) -> None:
    """Prevents a bookie that does not start at all: it takes a negative length for damage."""
    at = write(journal, struct.pack(">i", PADDING), 2)
    assert mend(journal.parent) is not None
    assert journal.stat().st_size == at


def test_only_the_last_record_is_in_question(journal: Path) -> None:
    """Prevents good messages from being cut off behind one that is damaged for another reason."""
    write(journal, filled(entry(7, 2, b"c" * 1100)[:-1] + b"?") + filled(entry(7, 3, b"d")))
    assert mend(journal.parent) is None


def test_an_unknown_format_is_left_alone(journal: Path) -> None:
    write(journal, entry(7, 2, b"c" * 1100), 1000, version=7)
    assert mend(journal.parent) is None
    journal.write_bytes(b"")
    assert mend(journal.parent) is None
    assert mend(journal.parent / "missing") is None


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """A broker of this test's own; its database is not started."""
    made = Instance.at(tmp_path, die_with_parent=True, memory="384m")
    made.broker.start()
    yield made
    made.broker.kill()


def end_of(journal: Path) -> int:
    """Where the next record would begin."""
    data, at = journal.read_bytes(), HEADER
    while length := struct.unpack_from(">i", data, at)[0]:
        at += 4 + length if length != PADDING else 8 + struct.unpack_from(">i", data, at + 4)[0]
    return at


@pytest.mark.faults
def test_a_broker_killed_in_the_middle_of_a_message(instance: Instance) -> None:
    """A real one, whose journal then ends as kills under load left it: with the first half of one more message."""
    topic = "persistent://public/default/half-a-message"
    sent = [bytes([number]) * 3000 for number in range(20)]
    client = instance.pulsar_client()
    producer = client.create_producer(topic)
    ledger = {producer.send(message).ledger_id() for message in sent}.pop()
    client.shutdown()
    instance.broker.kill()
    journals = (instance.broker.what.folder / "bookkeeper" / "current").glob("*.txn")
    newest = max(journals, key=lambda file: int(file.stem, 16))
    with newest.open("r+b") as file:
        file.seek(end_of(newest))
        file.write(entry(ledger, len(sent), bytes([99]) * 3000)[:1500])

    instance.broker.start()
    client = instance.pulsar_client()
    try:
        client.create_producer(topic).send(b"after it")
        reader = client.create_reader(topic, pulsar.MessageId.earliest)
        assert [reader.read_next(60_000).data() for _ in range(len(sent) + 1)] == [*sent, b"after it"]
        assert not reader.has_message_available()
    finally:
        client.close()

"""Protection against messages that exhaust memory: a limit on the writer's memory, and a count of its deaths.

A few kB may decompress to gigabytes in the client's threads, before our code sees them. Beyond its limit the writer
dies instead of exhausting the machine, and supervisord restarts it. After two consecutive deaths it looks for the
message with a process that may die in its place (`consumers.scout`), skips it with a dead letter, and continues.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pulsar

from consumers.health import LaneState
from consumers.letter_publisher import LetterPublisher
from consumers.sink import DeadLetter, Sink
from consumers.subscription import SUBSCRIPTION, Message
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.settings import PROJECT, PulsarSettings, load

# Consecutive deaths after which messages are scouted before subscribing.
SCOUT_AFTER = 2
# A process that lived this long did not die of a message waiting at its start.
LIVED_S = 120.0
SCOUT_S = 60.0
EXIT_MEMORY = 3  # exit code of a scout after MemoryError; the client's threads die by a signal instead
_DEADLY = (EXIT_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL)
MOST_SET_ASIDE = 20  # messages per start


def bound_memory(megabytes: int) -> None:
    """Limit this process's data segment in MB; beyond it allocations fail. 0: no limit."""
    if megabytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = megabytes << 20
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


class CrashCount:
    """Counts the consecutive deaths of previous processes, by a file that an orderly shutdown removes.

    Several writers of one name may run on a machine, so the files are named by process id.
    """

    def __init__(self, state_dir: Path, name: str) -> None:
        folder = state_dir / "writers"
        folder.mkdir(parents=True, exist_ok=True)
        self.deaths = max((deaths + 1 for deaths in _left_behind(folder, name)), default=0)
        self._file = folder / f"{name}.{os.getpid()}"
        self._file.write_text(str(self.deaths))
        self._timer = threading.Timer(LIVED_S, self._file.write_text, ("0",))
        self._timer.daemon = True
        self._timer.start()

    def clear(self) -> None:
        """Remove the file, for an orderly shutdown."""
        self._timer.cancel()
        self._file.unlink(missing_ok=True)


def _left_behind(folder: Path, name: str) -> Iterator[int]:
    """Yield the counts left behind by dead processes, and remove their files."""
    for file in folder.glob(f"{name}.*"):
        pid = file.suffix[1:]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            text = file.read_text()
            yield int(text) if text.isdecimal() else 0
            file.unlink(missing_ok=True)


def set_aside(name: str, sinks: Sequence[Sink], bus: Bus, stop: threading.Event) -> None:
    """Find messages that kill the process reading them, publish dead letters for them, and acknowledge them."""
    settings = load(PulsarSettings)
    admin = Admin(settings)
    for sink in sinks:
        publisher = LetterPublisher(name, bus, LaneState(sink.namespace), stop)
        try:
            starts = _starts(admin, f"{settings.tenant}/{sink.namespace}")
            for _ in range(MOST_SET_ASIDE):
                found = _find_deadly(admin, sink.namespace, starts)
                if found is None or stop.is_set():
                    break
                topic, place = found
                starts[topic] = place
                _set_aside(topic, place, sink.namespace, bus.client, publisher)
        except (PipelineError, pulsar.PulsarException, ValueError, KeyError) as error:  # retried at the next start
            get_logger().warning(events.BROKER_RETRY, on=sink.namespace, error=str(error))


Place = tuple[int, int]  # ledger, entry


def _starts(admin: Admin, namespace: str) -> dict[str, Place]:
    """Return our subscription's position on each topic with a backlog: the last acknowledged entry."""
    found: dict[str, Place] = {}
    for topic in admin.parts(namespace):
        if admin.backlog(topic, SUBSCRIPTION).messages:
            cursor = admin.internal_stats(topic)["cursors"].get(SUBSCRIPTION, {})
            ledger, entry = map(int, cursor.get("markDeletePosition", "-1:-1").split(":"))
            found[topic] = (ledger, entry)
    return found


def _find_deadly(admin: Admin, namespace: str, starts: dict[str, Place]) -> tuple[str, Place] | None:
    """Return topic and position of a message that killed two scouts: a single one may also die because we are stopped,
    or because the machine is short of memory."""
    seen: list[tuple[str, Place]] = []
    while len(seen) < 3:
        found = _run_scout(admin, namespace, starts)
        if found is None or found in seen:
            return found
        seen.append(found)
    return None


def _run_scout(admin: Admin, namespace: str, starts: dict[str, Place]) -> tuple[str, Place] | None:
    """Run a scout from these positions; returns topic and position of the message that killed it, or None if it
    survived."""
    child = subprocess.Popen(
        [sys.executable, "-m", "consumers.scout", namespace],
        cwd=PROJECT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        said, _ = child.communicate(json.dumps(starts), timeout=SCOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return None
    if child.returncode not in _DEADLY or not (lines := said.splitlines()):
        return None
    topic, ledger, entry = json.loads(lines[-1])
    if child.returncode == EXIT_MEMORY and (ledger, entry) != starts[topic]:  # it had received the message
        return topic, (ledger, entry)
    place = _next_entry(admin.ledgers(topic), (ledger, entry))
    return None if place is None else (topic, place)


def _next_entry(ledgers: list[tuple[int, int]], place: Place) -> Place | None:
    """Return the position of the next entry."""
    for number, entries in ledgers:
        if number == place[0] and place[1] + 1 < entries:
            return number, place[1] + 1
        if number > place[0] and entries:
            return number, 0
    return None


def _set_aside(topic: str, place: Place, namespace: str, client: pulsar.Client, publisher: LetterPublisher) -> None:
    partition = int(topic.rsplit("-partition-", 1)[1]) if "-partition-" in topic else -1
    where = pulsar.MessageId(partition, *place, -1)
    message = Message(topic, b"", where)
    detail = "reading it killed the program more than once (memory); it stays on its topic and is not stored"
    publisher.send(namespace, [DeadLetter(message, "memory", detail)])
    # Without a queue this consumer receives nothing, so it survives.
    consumer = client.subscribe(
        topic,
        SUBSCRIPTION,
        consumer_type=pulsar.ConsumerType.Failover,
        receiver_queue_size=0,
        initial_position=pulsar.InitialPosition.Earliest,
    )
    consumer.acknowledge(where)
    consumer.close()

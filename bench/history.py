"""History: a folder of bi5 files through Pulsar to committed rows with candles, next to the writer fed from memory."""

from __future__ import annotations

import pickle
import shutil
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pulsar

from bench.environment import Figures, Ground, Place, first, say, tail, until
from bench.start_on_signal import READY
from consumers.subscription import SUBSCRIPTION
from pipeline.broker import bootstrap
from pipeline.broker.admin import Admin
from pipeline.broker.topics import topic_of
from pipeline.core.errors import WrongUse
from pipeline.core.settings import PROJECT, PulsarSettings
from producers.dukascopy.instruments import VENUE, catalogue, chosen

RECORDED_DAY = PROJECT / "simulator" / "recordings" / "dukascopy" / "bi5" / "EURUSD" / "2019" / "01" / "04"
DAYS = 20
_COUNT = "SELECT count(*), coalesce(sum(ticks), 0) FROM quote_hours"
_STORED = 'writer_rows_stored_total{namespace="quotes"}'
_LAST = "writer_last_commit_timestamp_seconds"
_FIRST_READ = "SELECT extract(epoch FROM min(fetched_at)) FROM quote_hours"


@dataclass(frozen=True)
class Run:
    """One load. CPU seconds are those of the whole process, its start included."""

    quotes: int
    seconds: float
    writer_cpu: float
    writer_mb: float

    @property
    def rate(self) -> float:
        return self.quotes / self.seconds


@dataclass(frozen=True)
class Span:
    """The hours of one instrument in a folder of bi5 files, `end` excluded."""

    symbol: str
    start: str
    end: str


def spans(data: Path) -> list[Span]:
    """Folders are `SYMBOL/YYYY/MM/DD/HHh_ticks.bi5` with a zero-based month."""
    hours: dict[str, list[datetime]] = {}
    for path in data.rglob("[0-2][0-9]h_ticks.bi5"):
        symbol, year, month, day = path.parts[-5:-1]
        hours.setdefault(symbol, []).append(
            datetime(int(year), int(month) + 1, int(day), int(path.name[:2]), tzinfo=UTC)
        )
    if not hours:
        raise WrongUse(f"{data} holds no SYMBOL/YYYY/MM/DD/HHh_ticks.bi5; give a folder of bi5 files with --data.")
    form = "%Y-%m-%dT%H"
    return [
        Span(symbol, min(known).strftime(form), (max(known) + timedelta(hours=1)).strftime(form))
        for symbol, known in sorted(hours.items())
    ]


def default_data(folder: Path) -> Path:
    """The recorded EURUSD day (136,741 quotes) under twenty weekdays: one alone is over in a third of a second."""
    monday = datetime(2019, 2, 4, tzinfo=UTC)
    for number in range(DAYS):
        day = monday + timedelta(days=number // 5 * 7 + number % 5)
        target = folder / "EURUSD" / f"{day.year}" / f"{day.month - 1:02}" / f"{day.day:02}"
        target.mkdir(parents=True)
        for file in RECORDED_DAY.glob("*h_ticks.bi5"):
            shutil.copy(file, target)
    return folder


def _know_topics(place: Place, symbols: list[str]) -> None:
    """Make the topics, and wait until the writer reads them."""
    instance = place.ground.instance
    settings = PulsarSettings.model_validate(
        {
            "url": instance.pulsar_url,
            "admin_url": instance.pulsar_admin_url,
            "token_file": instance.pulsar_token,
            "tls_ca_file": instance.pulsar_certificate,
            "tenant": place.tenant,
        }
    )
    bootstrap.broker_when_ready(settings, threading.Event())  # a program that makes the same tenant may get in its way
    admin = Admin(settings)
    for one in chosen(symbols, catalogue()):
        topic = topic_of(place.tenant, "quotes", VENUE, one.product_id)
        admin.create_topic(topic)
        until(lambda topic=topic: admin.backlog(topic, SUBSCRIPTION).readers, 30, f"the writer does not read {topic}")


def through_pulsar(place: Place, data: Path, settings: Mapping[str, str] | None = None, *, new: bool = False) -> Run:
    """Measure from the first file read by the producer to the last commit of the writer.

    `new`: the topics do not exist yet, as at the first load of an instrument. `settings`: of the writer.
    """
    writer = place.start("consumers.quotes", program="quotes-writer", **(settings or {}))
    writer.wait_ready()
    asked = spans(data)
    if not new:
        _know_topics(place, [one.symbol for one in asked])
    root = next(data.rglob("[0-2][0-9]h_ticks.bi5")).parents[4]  # where the folders of the symbols are
    producers = [
        place.start(
            "bench.start_on_signal",
            "producers.dukascopy",
            "--feed",
            str(root),
            "--instruments",
            one.symbol,
            "--from",
            one.start,
            "--to",
            one.end,
            LIMITS_MIN_FREE_DISK_GB="0",
        )
        for one in asked
    ]
    for producer in producers:
        until(lambda log=producer.log: READY in log.read_text(), 60, "a producer did not start", producer.log)
    for producer in producers:
        producer.go()
    for producer in producers:
        producer.wait(600, codes=(0, 1))  # 1: hours that the folder does not have are left open
    with place.connect() as conn:
        quotes, began = int(first(conn, _COUNT)[1]), float(first(conn, _FIRST_READ)[0])
    if not quotes:
        raise RuntimeError(f"nothing was loaded:\n{tail(producers[0].log)}")
    until(lambda: writer.metric(_STORED) == quotes, 30, "the writer counts other rows", writer.log)
    return Run(quotes, writer.metric(_LAST) - began, writer.cpu_seconds(), writer.peak_mb())


def messages_of(place: Place) -> list[tuple[str, bytes]]:
    """Read back what the producer published, in order."""
    client = place.ground.instance.pulsar_client()
    found = []
    try:
        with place.connect() as conn:
            names = conn.execute("SELECT lower(venue || '.' || product_id) FROM instruments").fetchall()
        for (name,) in names:
            topic = f"persistent://{place.tenant}/quotes/{name}"
            reader = client.create_reader(topic, pulsar.MessageId.earliest)
            while reader.has_message_available():
                message = reader.read_next(timeout_millis=10_000)
                found.append((message.publish_timestamp(), topic, message.data()))
            reader.close()
    finally:
        client.close()
    return [(topic, data) for _, topic, data in sorted(found, key=lambda m: m[0])]


def from_memory(place: Place, messages: Path, quotes: int) -> Run:
    """Measure from the start signal to the last commit."""
    writer = place.start("bench.writer_from_memory", str(messages), program="quotes-writer")
    writer.wait_ready()
    time.sleep(1)  # its connections are up
    began = time.time()
    writer.go()
    until(lambda: writer.metric(_STORED) == quotes, 600, "the load did not arrive", writer.log, pause=0.1)
    return Run(quotes, writer.metric(_LAST) - began, writer.cpu_seconds(), writer.peak_mb())


def measure(ground: Ground, data: Path | None, rounds: int) -> Figures:
    """Run all ways in turn; medians. Two warm-up runs are not counted: the JVM of a new broker still compiles. Their
    topics are new, which the client notices once a second, in whole seconds."""
    data = data or default_data(ground.log_folder / "bi5")
    kept = ground.log_folder / "messages.pickle"
    ours, memory, direct, past = [], [], [], []
    archive = ground.log_folder / "archive"
    to_archive = {"ARCHIVE_PATH": str(archive), "ARCHIVE_DIRECT_DAYS": "30"}
    with ground.tables() as place:
        cold = through_pulsar(place, data, new=True)
        kept.write_bytes(pickle.dumps(messages_of(place)))
    with ground.tables() as place:
        new = through_pulsar(place, data, new=True)
    for _ in range(rounds):
        with ground.tables() as place:
            ours.append(through_pulsar(place, data))
        with ground.tables() as place:
            memory.append(from_memory(place, kept, ours[0].quotes))
        with ground.tables() as place:
            direct.append(through_pulsar(place, data, to_archive))
            with place.connect() as conn:  # the rest came as parts of days
                past.append(int(first(conn, "SELECT coalesce(sum(rows), 0) FROM archived")[0]) / direct[-1].quotes)
        shutil.rmtree(archive, ignore_errors=True)
        say(
            f"history: {ours[-1].rate:,.0f} quotes/s through Pulsar, {memory[-1].rate:,.0f} from memory,"
            f" {direct[-1].rate:,.0f} straight into the archive"
        )
    rate, memory_rate = (statistics.median(run.rate for run in runs) for runs in (ours, memory))
    return {
        "quotes": ours[0].quotes,
        "quotes_per_s": rate,
        "memory_quotes_per_s": memory_rate,
        "direct_quotes_per_s": statistics.median(run.rate for run in direct),
        "ratio": rate / memory_rate,
        "cold_quotes_per_s": cold.rate,
        "new_topics_quotes_per_s": new.rate,
        "writer_cpu_s": statistics.median(run.writer_cpu for run in ours),
        "direct_share_past_tables": statistics.median(past),
        "direct_writer_cpu_s": statistics.median(run.writer_cpu for run in direct),
    }

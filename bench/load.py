"""The Dukascopy producer alone: bi5 files to published messages, and its memory over a year of hours."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pulsar

from bench.environment import Child, Figures, Ground, Place, say, until
from bench.history import RECORDED_DAY, default_data, spans
from pipeline.broker.topics import topic_of
from pipeline.core import events
from schemas.columns import decode_quote_hour

_STORED = 'writer_rows_stored_total{namespace="quotes"}'


def producer(place: Place, data: Path) -> Child:
    """A load of all hours of a folder with one instrument."""
    (span,) = spans(data)
    return place.start(
        "producers.dukascopy",
        "--feed",
        str(data),
        "--instruments",
        span.symbol,
        "--from",
        span.start,
        "--to",
        span.end,
        LIMITS_MIN_FREE_DISK_GB="0",
    )


def published(place: Place, data: Path) -> float:
    """Quotes per second from the first file read to the last message read back; they are not stored."""
    files = len(list(data.rglob("[0-2][0-9]h_ticks.bi5")))
    child = producer(place, data)
    client = place.ground.instance.pulsar_client()
    found: list[bytes] = []
    try:
        topic = topic_of(place.tenant, "quotes", "dukascopy", "EUR-USD")
        until(lambda: events.TOPIC_CREATED in child.log.read_text(), 60, "no topic was created", child.log)
        reader = client.create_reader(topic, pulsar.MessageId.earliest)
        while len(found) < files:
            found.append(reader.read_next(timeout_millis=60_000).data())
        ended = time.time()
    finally:
        client.close()
        child.stop()
    hours = [decode_quote_hour(data) for data in found]
    began: float = min(hour.header.fetched_at_us for hour in hours) / 1e6
    return sum(len(hour) for hour in hours) / (ended - began)


def year_of_hours(folder: Path) -> Path:
    """The recorded EURUSD day under every weekday of 2019 (261 days, 6,264 files), as links."""
    day = datetime(2019, 1, 1, tzinfo=UTC)
    while day.year == 2019:
        if day.weekday() < 5:
            target = folder / "EURUSD" / f"{day.year}" / f"{day.month - 1:02}" / f"{day.day:02}"
            target.mkdir(parents=True)
            for file in RECORDED_DAY.glob("*h_ticks.bi5"):
                (target / file.name).symlink_to(file)
        day += timedelta(days=1)
    return folder


def year(place: Place, data: Path) -> Figures:
    """A year through Pulsar into the tables. Memory is all that is resident (VmRSS), in MB."""
    writer = place.start("consumers.quotes", program="quotes-writer")
    writer.wait_ready()
    began = time.monotonic()
    child = producer(place, data)
    seen: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(1.0):
            seen.append(child.total_resident_mb())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        until(lambda: child.process.poll() is not None, 3600, "the load does not end", child.log, pause=0.5)
    finally:
        ended.set()
        sampler.join()
    child.wait(10, codes=(0, 1))  # 1: hours of weekends that the folder does not have are left open
    seconds = time.monotonic() - began
    quotes = writer.metric(_STORED)
    early, late = seen[len(seen) // 6], max(seen[-len(seen) // 6 - 1 : -1])  # the last may be of its end
    return {
        "year_quotes": quotes,
        "year_quotes_per_s": quotes / seconds,
        "year_producer_mb": max(seen),
        "year_producer_growth_mb": late - early,
        "year_writer_mb": writer.peak_mb(),
    }


def measure(ground: Ground, rounds: int = 3) -> Figures:
    """Median of some rounds after a warm-up (the JVM still compiles), then the year."""
    few, many = default_data(ground.log_folder / "few"), year_of_hours(ground.log_folder / "year")
    rates = []
    for _ in range(rounds + 1):
        with ground.tables() as place:
            rates.append(published(place, few))
            say(f"load: {rates[-1]:,.0f} quotes/s from bi5 files to messages")
    with ground.tables() as place:
        figures = year(place, many)
    say(
        f"load: a year, {figures['year_quotes']:,.0f} quotes, {figures['year_quotes_per_s']:,.0f} quotes/s, producer"
        f" at most {figures['year_producer_mb']:.0f} MB, writer {figures['year_writer_mb']:.0f} MB"
    )
    return {"published_quotes_per_s": sorted(rates[1:])[len(rates[1:]) // 2], **figures}

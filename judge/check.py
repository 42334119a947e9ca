"""Checks after the faults: tables equal the tape, no duplicates, candles and ledger correct, dead letters explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pulsar
import pyarrow as pa
import pyarrow.parquet as pq

import schemas
from judge import recorded, samples
from judge.inject import Striker
from judge.old_days import KEY as OLD
from judge.old_days import QUOTES
from judge.testbed import Stage
from pipeline.archive.audit import audit
from pipeline.core.settings import PROJECT
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.verify import verify
from simulator.numbering import Numbering
from simulator.venues import listings
from venues.adapter import Proof
from venues.registry import adapters

_STORED = """
    SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price, quantity, taker_side::text
    FROM trades JOIN instruments USING (instrument_id)
    WHERE venue = %s AND product_id = %s AND trade_id BETWEEN %s AND %s ORDER BY trade_id, ts
"""
Bound = dict[tuple[str, str], int]


@dataclass
class Verdict:
    """`differences` is empty if every check passed."""

    trades: int = 0
    quotes: int = 0
    samples: int = 0
    letters: int = 0
    hostile: int = 0  # of the letters
    settled_s: float | None = None
    archived_trades: int = 0  # as read from the files
    archived_quotes: int = 0
    differences: list[str] = field(default_factory=list)


def connect(stage: Stage) -> Connection:
    return psycopg.connect(stage.database_url, autocommit=True, connect_timeout=5)


def first_ids(stage: Stage) -> Bound:
    """Return the first stored id of each product; the tape before it was never requested."""
    with connect(stage) as conn:
        rows = conn.execute(
            "SELECT venue, product_id, lower(ids) FROM trade_coverage JOIN instruments USING (instrument_id)"
            " WHERE NOT isempty(ids)"
        ).fetchall()
    return {
        (venue, product): _first_on_tape(stage, venue, product, low)
        for venue, product, low in rows
        if (venue, product) != OLD
    }


def _first_on_tape(stage: Stage, venue: str, product: str, low: int) -> int:
    """The tape's id of a stored one."""
    found = stage.simulator.numbering(venue, product).tape_id(low)
    if found is None:
        raise ValueError(f"{venue} gives no id {low} to {product}")
    return found


def judge(stage: Stage, first: Bound, last: Bound, striker: Striker, settle_s: float) -> Verdict:
    """Wait at most `settle_s` seconds until everything up to `last` is stored, then check everything."""
    began = time.monotonic()
    verdict = Verdict()
    while True:
        try:
            with connect(stage) as conn:
                open_ = _open(conn, stage, first, last) + stage.old.unsettled(conn)
        except psycopg.Error as error:
            open_ = [f"database: {error}".strip()]
        if not open_:
            verdict.settled_s = time.monotonic() - began
            break
        if time.monotonic() - began > settle_s:
            verdict.differences += [f"not settled within {settle_s:.0f} s: {text}" for text in open_[:10]]
            break
        stage.revive()
        time.sleep(1)
    try:
        _compare_stored(stage, first, last, striker, verdict)
        _both_tiers(stage, verdict)
        _letters(stage, striker, verdict)
    except (psycopg.Error, pulsar.PulsarException, OSError) as error:  # a pipeline that is down is a finding too
        verdict.differences.append(f"cannot be checked: {type(error).__name__}: {error}".strip())
    return verdict


def _compare_stored(stage: Stage, first: Bound, last: Bound, striker: Striker, verdict: Verdict) -> None:
    """Compare every stored trade with the tape, and every candle and ledger with the rows."""
    with connect(stage) as conn:
        for (venue, product), low in sorted(first.items()):
            _compare(conn, stage, venue, product, low, last[venue, product], verdict)
        verdict.samples, wrong_samples = samples.differences(conn, stage.simulator, striker.restored)
        verdict.differences += wrong_samples
        for found in verify(conn, storage=stage.old.storage):
            # Trades after the faults may still be incomplete.
            high = last.get((found.venue, found.product_id), 0) if found.kind == "trades" else 0
            wrong = [text for text in found.wrong if not (high and _beyond(text, high))]
            verdict.differences += [f"verify {found.venue} {found.product_id} {found.kind}: {w}" for w in wrong]
            verdict.quotes += int(found.rows) if found.kind == "quotes" else 0


def _both_tiers(stage: Stage, verdict: Verdict) -> None:
    """What `pipeline.read` gives of days that the archive took, against tape and recording; every file by itself."""
    old = stage.old
    reading = "trades", *OLD, f"{old.start:%Y-%m-%d}", f"{old.end:%Y-%m-%d}"
    rows = _read(stage, *reading)
    verdict.archived_trades = len(rows)
    verdict.differences += old.differences(rows)
    for product in QUOTES:
        read = _read(stage, "quotes", "dukascopy", product, "2019-01-01", "2024-01-01")
        verdict.archived_quotes += len(read)
        verdict.differences += recorded.differences(product, read)
    with connect(stage) as conn:
        verdict.differences += old.doubled(conn)
        for one in audit(conn, stage.old.storage):
            verdict.differences += [f"{one.path}: {text}" for text in one.wrong]


def _read(stage: Stage, *what: str) -> pa.Table:
    """Rows as any user reads them, in a process with the pipeline's settings."""
    file = stage.folder / "read.parquet"
    command = [sys.executable, "-m", "judge.reading", *what, str(file)]
    done = subprocess.run(command, cwd=PROJECT, env=stage.asking_environment(), capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(what)} cannot be read: {done.stderr.strip()[-500:]}")
    return pq.read_table(file)


def _beyond(text: str, high: int) -> bool:
    """Whether a finding is about ids after the faults."""
    numbers = [int(word) for word in text.replace(",", " ").replace("..", " ").split() if word.isdigit()]
    return "neither stored" in text and bool(numbers) and min(numbers) > high


def _open(conn: Connection, stage: Stage, first: Bound, last: Bound) -> list[str]:
    """What is neither stored nor explained up to `last`, and hours that are not there."""
    found: list[str] = []
    for (venue, product), low in first.items():
        if adapters()[venue].proof is not Proof.IDS:
            found += _open_windows(conn, stage, venue, product, low, last[venue, product])
            continue
        missing = query.scalar(
            conn,
            """
            SELECT int8multirange(int8range(%s, %s, '[]')) - c.ids - coalesce(
                (SELECT range_agg(int8range(h.first_id, h.last_id, '[]')) FROM holes h
                 WHERE h.instrument_id = c.instrument_id AND h.first_id IS NOT NULL AND h.signed_at IS NOT NULL), '{}')
            FROM trade_coverage c JOIN instruments i USING (instrument_id) WHERE i.venue = %s AND i.product_id = %s
            """,
            (low, last[venue, product], venue, product),
        )
        if missing is None or missing:
            found.append(f"{venue} {product} misses {'everything' if missing is None else missing}")
    for product, count in QUOTES.items():
        stored = query.scalar(
            conn,
            "SELECT coalesce(sum(ticks), 0) FROM quote_hours JOIN instruments USING (instrument_id)"
            " WHERE venue = 'dukascopy' AND product_id = %s",
            (product,),
        )
        if stored != count:
            found.append(f"dukascopy {product} has {stored} of {count} quotes")
    return found


def _stored(
    conn: Connection, stage: Stage, venue: str, product: str, low: int, high: int
) -> tuple[Numbering, list[tuple[Any, ...]]]:
    """The product's stored trades of these ids of the tape, by the venue's ids, and how the two follow from each
    other."""
    of = stage.simulator.numbering(venue, product)
    return of, conn.execute(_STORED, (venue, product, of.trade_id(low), of.trade_id(high))).fetchall()


def _open_windows(conn: Connection, stage: Stage, venue: str, product: str, low: int, high: int) -> Iterator[str]:
    """Of trades whose ids show nothing: those of the tape that are not stored, and time that is not proven."""
    of, rows = _stored(conn, stage, venue, product, low, high)
    on_tape = stage.simulator.tape(venue, product).trades(low, high).ids.tolist()
    if lost := set(on_tape) - {of.tape_id(row[0]) for row in rows}:
        yield f"{venue} {product} misses {len(lost)} trades, first {min(lost)}"
    gaps = "SELECT from_ts, to_ts FROM trade_time_gaps WHERE venue = %s AND product_id = %s"
    for begin, end in conn.execute(gaps, (venue, product)).fetchall():
        yield f"{venue} {product} is not proven between {begin} and {end}"


def _compare(conn: Connection, stage: Stage, venue: str, product: str, low: int, high: int, verdict: Verdict) -> None:
    """Compare every column of every trade with the tape; report the first difference."""
    of, rows = _stored(conn, stage, venue, product, low, high)
    if strange := [row[0] for row in rows if of.tape_id(row[0]) is None]:
        verdict.differences.append(f"{venue} {product}: {len(strange)} ids of another product, first {strange[0]}")
    stored = [(number, *row[1:]) for row in rows if (number := of.tape_id(row[0])) is not None]
    tape = stage.simulator.tape(venue, product)
    truth = tape.trades(low, high)
    verdict.trades += len(stored)
    ids = np.array([trade_id for trade_id, *_ in stored], dtype=np.int64)
    name = f"{venue} {product}"
    if len(doubled := np.flatnonzero(np.diff(ids) == 0)):
        verdict.differences.append(f"{name}: {len(doubled)} ids stored twice, first {ids[doubled[0]]}")
    for what, these in (("missing", np.setdiff1d(truth.ids, ids)), ("not on the tape", np.setdiff1d(ids, truth.ids))):
        if len(these):
            verdict.differences.append(f"{name}: {len(these)} ids {what}, first {these[0]}")
    place = {int(trade_id): i for i, trade_id in enumerate(truth.ids)}
    step_ns = listings()[venue].rest_time_step_ns
    scales = 10**tape.product.price_decimals, 10**tape.product.quantity_decimals
    for trade_id, ts_us, price, quantity, side in stored:
        if (i := place.get(trade_id)) is None:
            continue
        told = (int(truth.price[i]), int(truth.quantity[i]), "buy" if truth.buy[i] else "sell")
        kept = (price * scales[0], quantity * scales[1], side)
        at_ns = int(truth.ts_ns[i])
        coarse = ts_us == at_ns // step_ns * step_ns // 1000
        if told != kept or not (coarse or abs(at_ns // 1000 - ts_us) <= 2):
            verdict.differences.append(
                f"{name}: trade {trade_id} is {kept} at {ts_us}, on the tape {told} at {int(truth.ts_ns[i])} ns"
            )
            break


def _letters(stage: Stage, striker: Striker, verdict: Verdict) -> None:
    """Dead letters are exactly what was poisoned (one may come twice, as every message may), what was hostile, and,
    where a clock of ours was wrong, what looked too far ahead then."""
    client = stage.client()
    found: set[int] = set()
    try:
        for writer in ("trades-writer", "quotes-writer"):
            topic = f"persistent://{stage.tenant}/dead-letters/{writer}"
            reader = client.create_reader(topic, pulsar.MessageId.earliest)
            while reader.has_message_available():
                letter = schemas.decode("dead_letter", reader.read_next(timeout_millis=10_000).data())
                verdict.letters += 1
                trade_id = _trade_id(letter)
                if trade_id in striker.poisoned:  # whatever its reason: a wrong clock refuses the time first
                    found.add(trade_id)
                elif _expected(letter, striker):
                    verdict.hostile += 1
                elif trade_id is not None:
                    found.add(trade_id)
                else:
                    verdict.differences.append(
                        f"dead letter of {letter['topic']}: {letter['reason']} {letter['detail'][:200]}"
                    )
            reader.close()
    finally:
        client.close()
    if strange := sorted(found - set(striker.poisoned)):
        verdict.differences.append(f"dead letters of trades that were not poisoned: {strange[:5]}")
    if lost := sorted(set(striker.poisoned) - striker.doubtful - found):
        verdict.differences.append(f"poisoned trades without a dead letter: {lost[:5]}")


def _trade_id(letter: dict[str, Any]) -> int | None:
    """Return the id of the trade that a dead letter is about, or None."""
    try:
        return int(json.loads(letter["payload"])["trade_id"])
    except (ValueError, KeyError, TypeError):
        return None


def _expected(letter: dict[str, Any], striker: Striker) -> bool:
    """Whether a letter is about a hostile message, or a time that was refused because our clock was wrong."""
    place = tuple(int(number) for number in re.findall(r"-?\d+", letter["message_id"])[:2])
    if place in striker.hostile or letter["topic"] in striker.hostile_topics:
        return True
    return striker.skewed and letter["reason"] == "time"

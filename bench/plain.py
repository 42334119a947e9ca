"""Simple alternatives to the writer, on the same topics of single-trade messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import pulsar

import schemas
from bench.environment import Figures, Ground, Place, say, until
from bench.market import symbol

PRODUCTS = 4
_TABLE = """
    CREATE TABLE plain_trades (
        product text, trade_id bigint, ts timestamptz, price numeric, quantity numeric, side text
    );
    SELECT create_hypertable('plain_trades', by_range('ts', INTERVAL '7 days'), create_default_indexes => false);
    CREATE UNIQUE INDEX ON plain_trades (product, trade_id, ts)
"""
_INSERT = """
    INSERT INTO plain_trades
    VALUES (%s, %s, TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond', %s::numeric, %s::numeric, %s)
    ON CONFLICT DO NOTHING
"""
_STORED = 'writer_rows_stored_total{namespace="trades"}'
_LAST = "writer_last_commit_timestamp_seconds"


def _rows(message: pulsar.Message) -> Iterable[tuple[Any, ...]]:
    record = schemas.decode("trades", message.data())
    for t in record["trades"]:
        yield record["product_id"], t["trade_id"], t["timestamp_us"], t["price"], t["quantity"], t["taker_side"]


def _loop(
    place: Place, store: Callable[[psycopg.Connection[Any], list[pulsar.Message]], None], batch: int, total: int
) -> float:
    """Receive, store, acknowledge each; rows per second from the first message on."""
    client = place.ground.instance.pulsar_client()
    topics = [f"persistent://{place.tenant}/trades/kraken.{symbol(n).lower()}-usd" for n in range(PRODUCTS)]
    consumer = client.subscribe(topics, f"plain-{batch}", initial_position=pulsar.InitialPosition.Earliest)
    try:
        with place.connect() as conn:
            conn.execute("DROP TABLE IF EXISTS plain_trades")
            conn.execute(_TABLE)
            waiting = [consumer.receive(timeout_millis=10_000)]
            began, done = time.monotonic(), 0
            while done < total:
                while len(waiting) < min(batch, total - done):
                    waiting.append(consumer.receive(timeout_millis=10_000))
                store(conn, waiting)
                for message in waiting:
                    consumer.acknowledge(message)
                done += len(waiting)
                waiting = []
            return total / (time.monotonic() - began)
    finally:
        client.close()


def _single(conn: psycopg.Connection[Any], messages: list[pulsar.Message]) -> None:
    for row in _rows(messages[0]):
        conn.execute(_INSERT, row)


def _many(conn: psycopg.Connection[Any], messages: list[pulsar.Message]) -> None:
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(_INSERT, [row for message in messages for row in _rows(message)])


def measure(ground: Ground, count: int = 300_000) -> Figures:
    """All three ways on the same messages; rows per second."""
    with ground.tables() as place:
        place.start("bench.publish_trades", str(PRODUCTS), str(count // PRODUCTS), "1").wait(300)
        each = _loop(place, _single, 1, min(count, 10_000))
        say(f"plain: one insert and commit each {each:,.0f} rows/s")
        many = _loop(place, _many, 1000, count)
        say(f"plain: executemany of 1,000 {many:,.0f} rows/s")
        began = time.time()
        writer = place.start("consumers.trades", program="trades-writer")
        writer.wait_ready()
        until(lambda: writer.metric(_STORED) > 0, 60, "the writer stores nothing", writer.log, pause=0.01)
        began = time.time()  # connected, as the loops above are when their clock starts
        first = writer.metric(_STORED)
        until(lambda: writer.metric(_STORED) >= count, 300, "the writer did not finish", writer.log, pause=0.05)
        ours = (count - first) / (writer.metric(_LAST) - began)
        say(f"plain: the trades writer {ours:,.0f} rows/s, with candles and ledger")
    return {"single_rows_per_s": each, "executemany_rows_per_s": many, "writer_rows_per_s": ours, "ratio": ours / many}

"""What `live` would take at least: the same number of frames through bare clients of Pulsar and PostgreSQL.

One process sends opaque frames of the size of a live one, another one receives them, copies each batch into a table
without an index, commits and acknowledges. Nothing is parsed, checked, decoded or counted, there are no candles and no
ledger.
"""

from __future__ import annotations

import json
import os
import sys
import time

import psycopg
import pulsar

from bench.environment import Figures, Ground, cpu_per, delays_of, until
from bench.live import WARM_UP_S
from pipeline.broker.admin import Admin
from pipeline.broker.client import MOST_IN_ENTRY, new_client
from pipeline.core.runtime import Stop
from pipeline.core.settings import PulsarSettings, load

PRODUCTS = 10
TICK_S = 0.01  # the simulator sends what is due this often
FRAME_BYTES = 200  # what a message of Kraken's trades has with one or two trades


def publish(tenant: str, frames_per_s: float) -> None:
    """Send frames until stopped, to each topic in turn."""
    stop, client = Stop().listen(), new_client(load(PulsarSettings))
    producers = [
        client.create_producer(
            f"persistent://{tenant}/bare/{number}",
            batching_enabled=True,
            batching_max_publish_delay_ms=0,  # these two as in `pipeline.broker.client`
            batching_max_messages=MOST_IN_ENTRY,
        )
        for number in range(PRODUCTS)
    ]
    filling = bytes(FRAME_BYTES - 8)
    began, number = time.monotonic(), 0
    while not stop.wait(TICK_S):
        while number < (time.monotonic() - began) * frames_per_s:
            frame = time.time_ns().to_bytes(8, "big") + filling
            producers[number % PRODUCTS].send_async(frame, lambda *_: None)
            number += 1
    client.close()


def store(tenant: str) -> None:
    """Store frames until stopped, then print when each was sent, and how long it took until it was committed."""
    stop, settings = Stop().listen(), load(PulsarSettings)
    admin, client = Admin(settings), new_client(settings)
    admin.create_tenant(tenant)
    admin.create_namespace(f"{tenant}/bare")
    topics = [f"persistent://{tenant}/bare/{number}" for number in range(PRODUCTS)]
    policy = pulsar.ConsumerBatchReceivePolicy(1_000, 1 << 20, 1)
    consumer = client.subscribe(topics, "bare", consumer_type=pulsar.ConsumerType.Failover, batch_receive_policy=policy)
    delays: list[tuple[float, float]] = []
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("CREATE TABLE bare (sent_ns bigint, frame bytea)")
        print("ready", flush=True)
        while not stop.is_set():
            messages = consumer.batch_receive()
            frames = [message.data() for message in messages]
            if not frames:
                continue
            sent = [int.from_bytes(frame[:8], "big") for frame in frames]
            with conn.cursor().copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "bytea"])
                for row in zip(sent, frames, strict=True):
                    copy.write_row(row)
            now = time.time_ns()
            delays += [(one / 1e9, (now - one) / 1e6) for one in sent]
            for message in {message.topic_name(): message for message in messages}.values():
                consumer.acknowledge_cumulative(message)
    client.close()
    print(json.dumps(delays), flush=True)


def measure(ground: Ground, seconds: float = 60.0, frames_per_s: float = 1000.0) -> Figures:
    """p50, p99, p99.9 and the slowest, in ms from sent to committed, and the processor time of a frame."""
    with ground.tables() as place:
        writer = place.start("bench.bare", "store", place.tenant)
        until(lambda: "ready" in writer.log.read_text(), 60, "the writer did not come up\n", writer.log)
        producer = place.start("bench.bare", "publish", place.tenant, str(frames_per_s))
        writer.program, producer.program = "bare-writer", "bare-producer"
        time.sleep(WARM_UP_S)
        began, before = time.time(), ground.cpu_seconds()
        time.sleep(seconds)
        ended, after = time.time(), ground.cpu_seconds()
        producer.stop()
        time.sleep(1)
        writer.stop()
        found = json.loads(writer.log.read_text().splitlines()[-1])
    delays = [delay for sent, delay in found if began <= sent < ended]
    rate, p50, p99, p999, most = delays_of("bare", delays, seconds)
    cpu = cpu_per("frame", len(delays), before, after)
    return {"frames_per_s": rate, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": most, **cpu}


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(sys.argv[2], float(sys.argv[3]))
    else:
        store(sys.argv[2])

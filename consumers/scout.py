"""`python -m consumers.scout NAMESPACE`: read messages that may kill the process reading them; see `consumers.limits`.

Reads the start position of each topic from stdin; prints the topic being read and the last position that the client
delivered, before decoding that message. If this process dies by `MemoryError`, the message is the cause. If it is
killed in the client, which decompresses the next message meanwhile, that next one is.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

import pulsar

from consumers.candles import Candles
from consumers.limits import EXIT_MEMORY, bound_memory
from consumers.quote_hours import Hours
from consumers.subscription import QUEUED_SMALL, Message
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.broker.client import new_client
from pipeline.core.errors import BadData
from pipeline.core.settings import LimitSettings, PulsarSettings, load


def main() -> int:
    """Read all messages that a restarted writer would receive first; returns the exit code."""
    (sink,) = [made for made in (Trades(), Hours(), Tickers(), Candles()) if made.namespace == sys.argv[1]]
    bound_memory(load(LimitSettings).writer_memory_mb)
    client = new_client(load(PulsarSettings))
    for topic, (ledger, entry) in json.load(sys.stdin).items():
        print(json.dumps([topic, ledger, entry]), flush=True)
        # The next entry, inclusive: with an exclusive start the broker sends the previous one too, and the client drops
        # it.
        start = pulsar.MessageId(-1, ledger, entry + 1, -1) if ledger >= 0 else pulsar.MessageId.earliest
        reader = client.create_reader(topic, start, receiver_queue_size=1, start_message_id_inclusive=True)
        for _ in range(QUEUED_SMALL):
            if not reader.has_message_available():
                break
            try:
                handle = reader.read_next(timeout_millis=15_000)
            except pulsar.Timeout:  # for example the first chunk of a message
                break
            place = handle.message_id()
            print(json.dumps([topic, place.ledger_id(), place.entry_id()]), flush=True)
            with suppress(BadData):  # becomes a dead letter later
                sink.read(Message(topic, handle.data(), place))
        reader.close()
    return 0


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except MemoryError:
        code = EXIT_MEMORY
    finally:
        os._exit(code)  # without cleanup, which could hang in the client's threads

"""`python -m consumers.scout NAMESPACE`: reads what may end the process that reads it; see `consumers.limits`.

Takes from stdin where to begin on each topic, and says on stdout which topic it is about to read and the last place
that the client handed over. The client unpacks the next message meanwhile, so the place is said before the message is
looked into: where this process ends by `MemoryError` that message is to blame, where the client ends it the next one.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

import pulsar

from consumers.candles import Candles
from consumers.limits import OF_MEMORY, bound_memory
from consumers.quote_hours import Hours
from consumers.subscription import QUEUED_SMALL, Message
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.broker.client import new_client
from pipeline.core.errors import BadData
from pipeline.core.settings import LimitSettings, PulsarSettings, load


def main() -> int:
    (sink,) = [made for made in (Trades(), Hours(), Tickers(), Candles()) if made.namespace == sys.argv[1]]
    bound_memory(load(LimitSettings).writer_memory_mb)
    client = new_client(load(PulsarSettings))
    for topic, (ledger, entry) in json.load(sys.stdin).items():
        print(json.dumps([topic, ledger, entry]), flush=True)
        # The entry behind, inclusive: "behind this one" makes the broker send this one, too, and the client drop it.
        start = pulsar.MessageId(-1, ledger, entry + 1, -1) if ledger >= 0 else pulsar.MessageId.earliest
        reader = client.create_reader(topic, start, receiver_queue_size=1, start_message_id_inclusive=True)
        for _ in range(QUEUED_SMALL):
            if not reader.has_message_available():
                break
            try:
                handle = reader.read_next(timeout_millis=15_000)
            except pulsar.Timeout:  # such as the first part of a message in chunks
                break
            place = handle.message_id()
            print(json.dumps([topic, place.ledger_id(), place.entry_id()]), flush=True)
            with suppress(BadData):  # a letter, when its turn comes
                sink.read(Message(topic, handle.data(), place))
        reader.close()
    return 0


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except MemoryError:
        code = OF_MEMORY
    finally:
        os._exit(code)  # the client's threads may hold what cannot be freed

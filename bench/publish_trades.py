"""`python -m bench.publish_trades PRODUCTS COUNT PER_MESSAGE`: COUNT trades of each of PRODUCTS invented products."""

from __future__ import annotations

import sys

from bench.market import messages, symbol
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.runtime import Stop
from pipeline.core.settings import PulsarSettings, load


def main() -> None:
    products, count, per_message = map(int, sys.argv[1:])
    stop, settings = Stop().listen(), load(PulsarSettings)
    bootstrap.broker_when_ready(settings, stop)
    bus = Bus(settings, stop)
    for number in range(products):
        publisher = bus.publisher("trades", "kraken", f"{symbol(number)}-USD", "trades", "bench")
        for record in messages(number, count, per_message):
            publisher.send(record, wait=True)
        while not publisher.flush(10):
            pass
    bus.close()


if __name__ == "__main__":
    main()

"""A broker that dies while a program follows a product: the stream goes on by itself, each trade once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.settings import PulsarSettings, load
from pipeline.services.instance import Instance
from pipeline.stream import TradeEvent, stream
from tests.messages import trade
from tests.stream_help import Venue, take

pytestmark = pytest.mark.faults


@pytest.fixture
def fault_bus(
    fault_services: Instance, tenant: str, monkeypatch: pytest.MonkeyPatch, fault_database_url: str
) -> Iterator[Bus]:
    for name, value in {
        "PULSAR_URL": fault_services.pulsar_url,
        "PULSAR_ADMIN_URL": fault_services.pulsar_admin_url,
        "PULSAR_TENANT": tenant,
        "DATABASE_URL": fault_database_url,
    }.items():
        monkeypatch.setenv(name, value)
    bootstrap.broker(load(PulsarSettings))
    stop = threading.Event()
    made = Bus(load(PulsarSettings), stop)
    yield made
    stop.set()
    made.close()


def test_a_restart_of_the_broker_loses_and_doubles_nothing(fault_bus: Bus, fault_services: Instance) -> None:
    """Prevents a stream that ends, skips what was published meanwhile, or gives it again."""
    venue = Venue(fault_bus)
    venue.trades([trade(1)])
    with stream("kraken", "BTC-USD") as events:
        venue.trades([trade(2), trade(3)])
        found = take(events, 1)
        fault_services.broker.restart()
        venue.trades([trade(n) for n in range(4, 8)])
        fault_services.broker.kill()
        fault_services.broker.start()
        venue.trades([trade(8)])
        found += take(events, 6)
        assert events.poll(2.0) is None
    assert [one.trade.trade_id for one in found if isinstance(one, TradeEvent)] == [2, 3, 4, 5, 6, 7, 8]

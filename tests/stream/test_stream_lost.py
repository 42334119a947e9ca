"""What a topic no longer has is said: a stream never goes on behind something that it could not read."""

from __future__ import annotations

import time

import pytest

from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.broker.topics import topic_of
from pipeline.core.settings import PulsarSettings, load
from pipeline.stream import PositionLost, TradeEvent, stream
from pipeline.stream.position import Place, text_of_places
from tests.messages import trade
from tests.stream_help import Venue, take

LATE_S = 120.0


def delete(tenant: str) -> None:
    path = topic_of(tenant, "trades", "kraken", "BTC-USD").replace("://", "/")
    Admin(load(PulsarSettings))._call("DELETE", f"{path}?force=true")


@pytest.mark.parametrize("ledger", [10**9, 0])
def test_a_position_of_another_broker_is_lost(bus: Bus, database_url: str, ledger: int) -> None:
    """Prevents a stream that is silent for ever after a reset of the broker, whose messages are numbered anew, or with
    the position of another topic."""
    venue = Venue(bus)
    venue.trades([trade(1)])
    sent_ms = int((time.time() - LATE_S) * 1000)
    with stream("kraken", "BTC-USD", after=text_of_places({"trades": Place(sent_ms, (ledger, 0, -1))})) as events:
        venue.trades([trade(2)])
        with pytest.raises(PositionLost):
            take(events, 1)


def test_a_message_of_the_same_number_is_another_one(bus: Bus, database_url: str) -> None:
    """Prevents going on behind a message that only has the number of the one that was read."""
    venue = Venue(bus)
    with stream("kraken", "BTC-USD") as events:
        venue.trades([trade(1)])
        take(events, 1)
    place = events.places["trades"].replace(sent_ms=events.places["trades"].sent_ms - 1)
    venue.trades([trade(2)])
    with stream("kraken", "BTC-USD", after=text_of_places({"trades": place})) as events, pytest.raises(PositionLost):
        take(events, 1)


def test_a_topic_that_is_deleted_under_a_slow_reader_is_said(bus: Bus, tenant: str, database_url: str) -> None:
    """Prevents thousands of trades that a reader never hears of, since the topic was deleted before it came to them."""
    venue = Venue(bus)
    with stream("kraken", "BTC-USD") as events:
        for number in range(1, 2_001):
            venue.send([trade(number)])
        venue.flush()
        found = take(events, 1)
        delete(tenant)
        venue.trades([trade(5_000)])
        with pytest.raises(PositionLost):
            found.extend(events)
    ids = [one.trade.trade_id for one in found if isinstance(one, TradeEvent)]
    assert ids == list(range(1, len(ids) + 1)), "what was given is whole up to there"

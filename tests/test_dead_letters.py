"""Dead letters: that what was refused can be found, understood and stored once its cause is mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner, Result
from messages import T0_US, hour_bytes, received, store, trade, trades_record

import schemas
from consumers import dead_letters
from consumers.trades import Trades
from pipeline.bus import Bus, new_client
from pipeline.topics import full_name


def letter(bus: Bus, payload: bytes, namespace: str = "trades", local: str = "kraken.btc-usd", **fields: Any) -> None:
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    publisher.send({
        "source": "trades-writer", "topic": full_name(bus.settings.tenant, namespace, local),
        "message_id": "(1,2,-1,0)",
        "row": None, "reason": "price", "detail": "zero", "payload": payload, "at_us": T0_US, **fields,
    })  # fmt: skip
    assert publisher.flush(30)
    publisher.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters.main, list(arguments), catch_exceptions=False)


def messages(bus: Bus, namespace: str, local: str, schema: str) -> list[Any]:
    client = new_client(bus.settings)
    reader = client.create_reader(
        full_name(bus.settings.tenant, namespace, local), dead_letters.pulsar.MessageId.earliest,
        schema=schemas.registered(schema),
    )  # fmt: skip
    found = []
    while reader.has_message_available():
        found.append(reader.read_next(timeout_millis=5000).value())
    client.close()
    return found


def test_a_refused_trade_is_sent_again_and_can_be_stored(bus: Bus, database_url: str) -> None:
    """Prevents a mended program that leaves the trades of yesterday's mistake out for ever."""
    letter(bus, json.dumps(trade(7)).encode(), row=2)
    assert call("replay", "--all").exit_code == 0
    (record,) = messages(bus, "trades", "kraken.btc-usd", "trades")
    assert record["trades"] == [trade(7)]
    assert (record["venue"], record["product_id"], record["origin"]) == ("kraken", "BTC-USD", "repair")
    with psycopg.connect(database_url, autocommit=True) as conn:
        assert store(Trades(), conn, [received("trades", record)]) == (1, [])


def test_a_refused_message_is_sent_again_as_it_was(bus: Bus) -> None:
    """Prevents a replay that changes what it replays."""
    record = trades_record([trade(1), trade(2)])
    letter(bus, schemas.encode("trades", record), reason="schema")
    assert call("replay", "--reason", "schema").exit_code == 0
    assert messages(bus, "trades", "kraken.btc-usd", "trades") == [record]


def test_a_row_of_an_hour_brings_its_whole_message(bus: Bus) -> None:
    """Prevents an hour of quotes of which only the refused row is sent, which would replace the hour."""
    topic = full_name(bus.settings.tenant, "quotes", "dukascopy.eur-usd")
    publisher = bus.publisher_to(topic, "quotes", "test", whole=True)
    data = hour_bytes([0, 1000], [110_000, 110_001])
    publisher.send(data)
    assert publisher.flush(30)
    publisher.close()
    client = new_client(bus.settings)
    reader = client.create_reader(topic, dead_letters.pulsar.MessageId.earliest)
    place = str(reader.read_next(timeout_millis=5000).message_id())
    client.close()
    letter(bus, b'{"bid": 0}', "quotes", "dukascopy.eur-usd", row=1, message_id=place)
    result = call("replay", "--all")
    assert result.exit_code == 0, result.output
    client = new_client(bus.settings)
    reader = client.create_reader(topic, dead_letters.pulsar.MessageId.earliest)
    assert [reader.read_next(timeout_millis=5000).data() for _ in range(2)] == [data, data]
    client.close()


def test_what_was_sent_again_is_listed_no_more(bus: Bus) -> None:
    """Prevents a list that never gets shorter, and a second replay by mistake."""
    letter(bus, json.dumps(trade(7)).encode(), row=0)
    (line,) = call("list", "--json").output.splitlines()
    assert json.loads(line)["payload"] == trade(7)
    assert "1 sent again, 0 not" in call("replay", json.loads(line)["id"]).output
    assert call("list", "--json").output == ""
    assert "0 sent again" in call("replay", "--all").output
    assert len(call("list", "--json", "--all").output.splitlines()) == 1


def test_a_frame_of_a_venue_is_not_sent_and_says_why(bus: Bus) -> None:
    """Prevents bytes of a venue on a topic, where the schema would make nonsense of them."""
    letter(bus, b"<html>", reason="json", topic="wss://ws.kraken.com/v2")
    result = call("replay", "--all")
    assert result.exit_code == 1
    assert "the gap filler fetches what it held" in result.output


def test_show_gives_the_content_and_an_unknown_id_is_wrong_use(bus: Bus, capsys: Any) -> None:
    """Prevents a letter that can only be read with a hex editor."""
    letter(bus, schemas.encode("trades", trades_record([trade(41, price="123.456")])))
    (line,) = call("list", "--json").output.splitlines()
    assert "123.456" in call("show", json.loads(line)["id"]).output
    assert call("show", "trades-writer/0:0:0").exit_code == 2
    assert call("replay").exit_code == 2


def test_without_letters_the_list_says_so(bus: Bus, tmp_path: Path) -> None:
    """Prevents an empty screen that could mean anything."""
    assert "No dead letters." in call("list").output

"""Dead letters: that what was refused can be found, understood and stored once its cause is mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

import schemas
from consumers import dead_letters
from consumers.trades import Trades
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus, new_client
from pipeline.broker.topics import full_name
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record
from tests.writer_help import Raw


def letter(bus: Bus, payload: bytes, namespace: str = "trades", local: str = "kraken.btc-usd", **fields: Any) -> None:
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    publisher.send(
        {
            "source": "trades-writer",
            "topic": full_name(bus.settings.tenant, namespace, local),
            "message_id": "(1,2,-1,0)",
            "row": None,
            "reason": "price",
            "detail": "zero",
            "payload": payload,
            "at_us": T0_US,
            **fields,
        }
    )
    assert publisher.flush(30)
    publisher.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters.main, list(arguments), catch_exceptions=False)


def messages(bus: Bus, namespace: str, local: str, schema: str) -> list[Any]:
    client = new_client(bus.settings)
    reader = client.create_reader(
        full_name(bus.settings.tenant, namespace, local),
        dead_letters.pulsar.MessageId.earliest,
        schema=schemas.registered(schema),
    )
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
    assert "the gap filler fetches its content" in result.output


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


HOSTILE_PAYLOADS = [
    b"[" * 60_000 + b"]" * 60_000,
    b"{" * 60_000,
    b'{"a": "\\ud800"}',
    b'{"a": ' + b"9" * 30 + b"}",
    b"NaN",
    b"[1e999]",
    b'{"a": ' + b"9" * 6_000 + b"}",
    b'"\x1b[2J\x07"',
    '"\u202e\\u001b[31m"'.encode(),
    b"\xff\xfe\0",
    b"",
    b"[red]x[/nowhere]",
    json.dumps({"a": ["x" * 100_000] * 5}).encode(),
    b"[" + b"1," * 500_000 + b"1]",
]
HOSTILE_FIELDS: list[dict[str, Any]] = [
    {"reason": "[bold]a[/nowhere]", "detail": "\x1b[2J\x07[link=http://x]y[/link]"},
    {"topic": "persistent://\x1b]0;x\x07"},
    {"at_us": 1 << 62},
    {"at_us": -(1 << 63)},
    {"message_id": "(9" * 5_000},
    {"row": -(1 << 31)},
    {"detail": "\0\u202e" * 999},
    {"message_id": "(999999999999999999,999999999999999999,999999999,999999999)", "row": 5, "topic": "quotes"},
]


def test_letters_that_strangers_wrote_are_shown_and_refused_like_others(bus: Bus) -> None:
    """Prevents one letter that nobody can list past, and escape codes on the terminal of who looks."""
    for payload in HOSTILE_PAYLOADS:
        letter(bus, payload)
        letter(bus, payload, row=0)
        letter(bus, payload, "tickers", row=0)
    for fields in HOSTILE_FIELDS:
        letter(bus, b"{}", **fields)
    topic = full_name(bus.settings.tenant, "dead-letters", "trades-writer")
    raw = bus.client.create_producer(topic, schema=Raw("dead_letter"))
    raw.send(b"\xff" * 30)
    raw.close()
    count = 3 * len(HOSTILE_PAYLOADS) + len(HOSTILE_FIELDS) + 1
    lines = call("list", "--json").output.splitlines()
    assert len(lines) == count
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
        shown = call("show", json.loads(line)["id"])
        assert shown.exit_code == 0
        assert "\x1b" not in shown.output
    table = call("list").output
    assert "\x1b" not in table
    assert "\x07" not in table
    assert "[bold]a[/nowhere]" in table, "taken for markup"
    result = call("replay", "--all")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert len(result.output.splitlines()) == count + 1


def test_a_replay_goes_to_our_own_topics_of_market_data_only(bus: Bus) -> None:
    """Prevents who may write letters from publishing wherever the operator may."""
    data = schemas.encode("trades", trades_record([trade(1)]))
    mine = bus.settings.tenant
    for topic in (
        "persistent://other/trades/kraken.btc-usd",
        "persistent://public/default/x",
        "persistent://public/x/assignments",
        full_name(mine, "control", "gaps"),
        full_name(mine, "dead-letters", "trades-writer"),
        full_name(mine, "trades", "nonsense"),
        full_name(mine + "x", "trades", "kraken.btc-usd"),
    ):
        letter(bus, data, topic=topic)
    result = call("replay", "--all")
    assert (result.exit_code, "0 sent again, 7 not." in result.output) == (1, True)
    assert Admin(bus.settings).topics(f"{bus.settings.tenant}/trades") == []


def test_a_finding_and_what_could_not_be_read_are_not_sent_again(bus: Bus) -> None:
    letter(bus, json.dumps({"first_id": 1, "last_id": 2, "reason": "too_old"}).encode(), row=1)
    letter(bus, b"", reason="memory")
    output = call("replay", "--all").output
    assert "the gap filler will look for them again" in output
    assert "could not be read" in output


def test_the_newest_are_read_from_the_end(bus: Bus) -> None:
    """Prevents a page that reads all letters of seven days every three seconds: 150,000 took 7 s and 3.3 GB."""
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    record = {
        "source": "trades-writer",
        "topic": "x",
        "message_id": "",
        "row": None,
        "reason": "price",
        "detail": "",
        "payload": b"x" * 1000,
        "at_us": T0_US,
    }
    for number in range(3_000):
        publisher.send({**record, "at_us": T0_US + number}, wait=True)
        if number % 7 == 0:
            publisher.flush(10)
    assert publisher.flush(30)
    publisher.close()
    newest = dead_letters.read(bus.settings, bus.client, limit=150)
    assert [one.at_us - T0_US for one in newest] == list(range(2_850, 3_000))
    assert len(dead_letters.read(bus.settings, bus.client, limit=10_000)) == 3_000
    few = dead_letters.read(bus.settings, bus.client, limit=10_000, most_bytes=100_000)
    assert few[-1].at_us == T0_US + 2_999
    assert len(few) < 300

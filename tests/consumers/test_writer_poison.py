"""Whatever a client puts on a topic, the writers go on, store everything else and say why they did not store that.

Prevents a message that ends a writer for ever: an exception that nobody expected, a row that is tried again and again,
a letter that does not fit. Against a real broker and a real database.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pulsar
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from consumers.sink import MOST_LETTERS, MOST_PAYLOAD
from pipeline.verify import verify
from tests import hostile
from tests.messages import T0_US, hour_bytes, trade, trades_record
from tests.writer_help import NAMES, Raw, Rig


def test_every_field_of_every_schema_with_any_value(rig: Rig) -> None:
    """Some thousand messages: each field in turn with each hostile value, bytes cut and changed anywhere."""
    for name in NAMES:
        for number, data in enumerate(hostile.everything(name)):
            rig.send(name, data)
            if number % 50 == 0:
                rig.send_good(name)
        rig.send_good(name)
    rig.settled()
    rig.readable()
    assert rig.writer.state.report()[1]["why"] == ["all well"]
    letters = rig.letters()
    assert all(letter["reason"] and letter["detail"] and letter["detail"].isprintable() for letter in letters)
    known = {"schema", "topic", "time", "price", "trade_id", "hole", "asset_class", "state", "quorum", "scale"}
    assert known <= {letter["reason"] for letter in letters}
    assert not [letter["detail"] for letter in letters if letter["reason"] in ("database", "writer")], "known by a rule"


@given(st.randoms(use_true_random=False), st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=12, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_fields_at_once_and_any_bytes(rig: Rig, rng: random.Random, raw: list[bytes]) -> None:
    for name in NAMES:
        schema = schemas.definition(name)
        for _ in range(15):
            record = hostile.BASE[name]
            for _ in range(rng.randrange(2, 5)):
                record = rng.choice(list(hostile.mutations(record, schema)))
            rig.send(name, hostile.encoded(name, record) if name != "quotes" else schemas.encode(name, record))
        for data in raw:
            rig.send(name, data)
        rig.send_good(name)
    rig.settled()
    rig.readable()


@pytest.mark.parametrize("table", ["trades", "quotes", "exchange_candles"])
@pytest.mark.parametrize("how", ["raise", "internal"])
def test_what_no_check_knows_is_found_by_halving(rig: Rig, table: str, how: str) -> None:
    """A trigger stands for whatever the database may yet refuse: of a batch only the message at fault is lost."""
    column = {"trades": "price", "quotes": "bid", "exchange_candles": "open"}[table]
    error = "'no such price' USING ERRCODE = 'internal_error'" if how == "internal" else "'no such price'"
    rig.conn.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.{column} = 6.66 THEN RAISE {error}; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()""")
    for i in range(30):
        rig.send("trades", schemas.encode("trades", trades_record([trade(i, price="6.66" if i == 17 else "5")])))
        ticker = {**hostile.BASE["ticker"], "timestamp_us": T0_US + i, "bid": "6.66" if i == 17 else "5"}
        rig.send("ticker", schemas.encode("ticker", ticker))
        made = {**hostile.candle(i), "open": "6.66" if i == 17 else "1"}
        rig.send("candles", schemas.encode("candles", {**hostile.BASE["candles"], "candles": [made]}))
    for name in NAMES:
        rig.send_good(name)
    rig.settled()
    letters = rig.letters()
    assert [(letter["reason"], letter["row"]) for letter in letters] == [("database", 0)]
    assert "no such price" in letters[0]["detail"]
    assert b"6.66" in letters[0]["payload"]


def test_a_message_of_bad_rows_gives_few_letters(rig: Rig) -> None:
    """150,000 bad rows of 1 MB were 150,000 letters and 45 MB of log."""
    bad = {"trade_id": 1, "timestamp_us": 0, "price": "", "quantity": "", "taker_side": "buy"}
    rig.send("trades", schemas.encode("trades", trades_record([bad] * 150_000)))
    for _ in range(3):
        rig.send_good("trades")
    rig.settled()
    letters = rig.letters()
    assert len(letters) == MOST_LETTERS + 1
    assert letters[-1]["detail"] == "149,900 more rows of this message were refused: price 149,900"
    assert letters[-1]["row"] is None


def test_a_refused_hour_of_any_size_has_a_letter(rig: Rig) -> None:
    """Its letter did not fit into the broker's 5 MB: the writer span for ever and /health was well."""
    count = 1_200_000
    data = hour_bytes([0] * count, [1 << 40] * count, size=[1 << 20] * count, price_scale=4)
    assert len(data) > 5 << 20
    producer = rig.client.create_producer(
        rig.topic("quotes"), schema=Raw("quotes"), chunking_enabled=True, batching_enabled=False
    )
    producer.send(data)
    rig.send_good("quotes")
    rig.settled()
    (letter,) = rig.letters()
    assert (letter["reason"], len(letter["payload"])) == ("scale", MOST_PAYLOAD)
    assert f"of {len(data):,} bytes" in letter["detail"]


def test_sums_beyond_64_bits_are_refused_and_never_go_round(rig: Rig) -> None:
    count = 20_000
    rig.send("quotes", hour_bytes(list(range(count)), [110_000] * count, size=[10**15 - 1] * count))
    rig.send("quotes", hour_bytes(list(range(count)), [1] * count, [10**15 - 1] * count))
    rig.send_good("quotes")
    rig.settled()
    assert [letter["reason"] for letter in rig.letters()] == ["size", "price"]
    assert [text for verdict in verify(rig.conn) for text in verdict.wrong if "candle" in text] == []


def test_findings_are_claims_below_the_newest_id_that_is_known(rig: Rig) -> None:
    """Prevents one trade with a future id, or one message, from explaining ids that will be lost later."""
    holes = [
        hostile.hole(2, 3),
        hostile.hole(9, 8),
        hostile.hole(5, (1 << 63) - 1),
        hostile.hole(-1, 2),
        hostile.hole(6, 7, "because"),
        hostile.hole(12_000_000, 12_000_001),
        hostile.hole(0, 9),
    ]
    rig.send("trades", schemas.encode("trades", trades_record([trade(i) for i in (1, 4, 10)], holes=holes)))
    rig.send_good("trades")
    rig.settled()
    query = "SELECT first_id, last_id, signed_at FROM holes WHERE first_id IS NOT NULL ORDER BY 1, 2"
    assert rig.conn.execute(query).fetchall() == [(0, 0, None), (2, 3, None), (5, 9, None)]
    assert [letter["row"] for letter in rig.letters()] == [4, 5, 6, 7, 8]
    rig.send("trades", schemas.encode("trades", trades_record([trade(6), trade(3)], origin="repair")))
    rig.send_good("trades")
    rig.settled()
    assert rig.conn.execute(query).fetchall() == [(0, 0, None), (2, 2, None), (5, 5, None), (7, 9, None)]


def test_a_live_row_may_be_a_day_ahead_and_what_rest_gave_any_time(rig: Rig) -> None:
    """Our clock may be the wrong one: two minutes behind, it made holes of good trades."""
    now_us = time.time_ns() // 1000
    day_us = 86_400_000_000
    live = [trade(1, now_us + 300_000_000), trade(2, now_us + day_us * 9 // 10), trade(3, now_us + 2 * day_us)]
    rig.send("trades", schemas.encode("trades", trades_record(live)))
    rig.send("trades", schemas.encode("trades", trades_record([trade(4, now_us + 400 * day_us)], origin="repair")))
    rig.send_good("trades")
    rig.settled()
    assert rig.one("SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades WHERE trade_id < 10") == [1, 2, 4]
    assert [(letter["reason"], letter["row"]) for letter in rig.letters()] == [("time", 2)]
    assert rig.one("SELECT count(*) FROM holes") == 0


def test_bytes_are_read_by_the_schema_that_they_were_written_with(rig: Rig) -> None:
    """The broker lets pass a field with a default wherever it stands: read as ours, such bytes are other numbers."""
    ours = schemas.definition("trades")
    extra = {"name": "extra", "type": ["null", "string"], "default": None}
    nothing = {"name": "nothing", "default": [], "type": {"type": "array", "items": "null"}}
    layouts = {
        "behind": [*ours["fields"], extra],
        "before": [extra, *ours["fields"]],
        "nothing": [nothing, *ours["fields"]],
        "older": ours["fields"][:-1],
    }
    for number, (layout, fields) in enumerate(layouts.items()):
        schema = pulsar.schema.AvroSchema(None, schema_definition={**ours, "fields": fields})
        record = {k: v for k, v in trades_record([trade(number)]).items() if layout != "older" or k != "holes"}
        producer = rig.client.create_producer(rig.topic("trades"), schema=schema)
        producer.send({**record, "extra": "x", "nothing": [None] * 1_000_000})
        producer.close()
    rig.send_good("trades")
    rig.settled()
    assert rig.one("SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades WHERE trade_id < 10") == [0, 3]
    assert [(letter["reason"], letter["detail"]) for letter in rig.letters()] == [
        ("schema", "written with other fields than our schema's")
    ] * 2


def test_what_is_encrypted_is_refused_and_holds_up_nothing(rig: Rig, tmp_path: Path) -> None:
    """Prevents a topic whose backlog grows behind a message that the client never hands over."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "public").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    (tmp_path / "private").write_text("")
    producer = rig.client.create_producer(
        rig.topic("trades"),
        schema=schemas.registered("trades"),
        encryption_key="key",
        crypto_key_reader=pulsar.CryptoKeyReader(str(tmp_path / "public"), str(tmp_path / "private")),
    )
    producer.send(trades_record([trade(1)]))
    rig.send_good("trades")
    rig.settled()
    assert [letter["reason"] for letter in rig.letters()] == ["schema"]


def test_trades_of_a_thousand_weeks_are_stored(rig: Rig) -> None:
    """Each week is a new chunk with locks of its own. What one transaction cannot hold is stored in several."""
    week_us = 7 * 86_400_000_000
    rig.conn.execute("SET max_parallel_workers = 0")
    trades = [trade(number, T0_US - number * week_us) for number in range(1, 1_000)]
    began = time.monotonic()
    rig.send("trades", schemas.encode("trades", trades_record(trades, origin="repair")))
    rig.send_good("trades")
    rig.settled()
    print("took", time.monotonic() - began)
    assert rig.one("SELECT count(*) FROM trades WHERE trade_id < 1000") == 999

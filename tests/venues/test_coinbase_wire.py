"""Coinbase's recorded payloads, its candles, its sequence numbers and its token."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.core.errors import WrongAnswer, WrongUse
from pipeline.core.times import us_to_iso
from schemas.records import CandleRow, TradeRow
from venues.coinbase import parse
from venues.coinbase.settings import CoinbaseSettings
from venues.coinbase.stream import CoinbaseVenue
from venues.coinbase.token import tokens_of
from venues.events import (
    Acknowledged,
    CandleFrame,
    FramesLost,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    Unreadable,
    VenueNotice,
)
from venues.running_candles import CandleBook

SESSION = Path(__file__).parents[2] / "simulator" / "recordings" / "coinbase" / "advanced_trade_session_10s.jsonl"


def recorded() -> list[bytes]:
    lines = [json.loads(line) for line in SESSION.read_text().splitlines()]
    return [line["data"].encode() for line in lines if line["t"] == "recv"]


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def venue(tmp_path: Path, **settings: object) -> CoinbaseVenue:
    return CoinbaseVenue(CoinbaseSettings(**settings), tmp_path, threading.Event())  # type: ignore[arg-type]


def test_trade_ids_of_the_recorded_session_are_contiguous_from_snapshot_into_updates() -> None:
    """Newest first: reading a frame in its order would put each frame's trades on their head."""
    said = [one for frame in recorded() for one in parse.read(frame).events]
    assert not [one for one in said if isinstance(one, Unreadable)]
    for product in ("BTC-USD", "ETH-USD"):
        frames = [one for one in said if isinstance(one, TradeFrame) and one.product_id == product]
        assert [frame.snapshot for frame in frames] == [True] + [False] * (len(frames) - 1)
        assert len(frames[0].rows) == 100
        ids = [row.trade_id for frame in frames for row in frame.rows]
        assert len(ids) > 100
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_takers_side_is_the_opposite_of_what_the_venue_sends() -> None:
    frame = b'{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"7","price":"65083.67","size":"0.01034361","time":"2026-08-09T21:05:48.167634Z","side":"SELL"}]}]}'  # noqa: E501
    read = parse.read(frame)
    assert read.sequence == 9
    assert read.at_us == 1786309548251397
    (trades,) = read.events
    assert isinstance(trades, TradeFrame)
    assert trades.rows == [TradeRow(7, 1786309548167634, "65083.67", "0.01034361", "buy")]


def test_tickers_and_candles_of_the_recorded_session() -> None:
    said = [one for frame in recorded() for one in parse.read(frame).events]
    ticker = next(one for one in said if isinstance(one, TickerFrame))
    assert (ticker.product_id, ticker.quote.bid, ticker.quote.ask_size) == ("BTC-USD", "65083.66", "0.24290402")
    candles = [one for one in said if isinstance(one, CandleFrame)]
    for frame in candles:
        buckets = [row.bucket_us for row in frame.rows]
        assert buckets == sorted(buckets)
        assert all(bucket % 300_000_000 == 0 for bucket in buckets)
    assert {(a.channel, a.product_id) for a in said if isinstance(a, Acknowledged)} >= {
        (channel, product) for channel in ("market_trades", "ticker", "candles") for product in ("BTC-USD", "ETH-USD")
    }


@given(st.binary(max_size=200))
def test_no_bytes_whatever_end_the_connection(frame: bytes) -> None:
    for said in parse.read(frame).events:
        assert isinstance(said, Unreadable | VenueNotice | SubscriptionRefused)


def candles_frame(*candles: dict[str, Any], **envelope: Any) -> bytes:
    good = {"open": "1", "high": "2", "low": "1", "close": "1", "volume": "3", "product_id": "BTC-USD"}
    events = [{"type": "snapshot", "candles": [good | candle for candle in candles]}]
    frame = {"channel": "candles", "timestamp": "2026-08-09T21:05:48Z", "sequence_num": 1, "events": events}
    return json.dumps(frame | envelope).encode()


@pytest.mark.parametrize(
    "odd",
    [
        {"close": math.nan},
        {"start": 1786279500000},
        {"start": str(10**20)},
        {"start": 1786279501},
        {"start": None},
        {"volume": 10**400},
        {"product_id": ["BTC-USD"]},
        {"high": {}},
        {"start": True},
    ],
)
def test_one_odd_candle_costs_itself(odd: dict[str, Any]) -> None:
    """One of thirty took all candles of its product and of the next one with it; a start in ms ended the producer."""
    frame = candles_frame({"start": "1786279500"}, {"start": "1786279200"} | odd, {"start": "1786278900"})
    good, bad = parse.read(frame).events
    assert isinstance(good, CandleFrame)
    assert len(good.rows) == 2
    assert isinstance(bad, Unreadable)


@pytest.mark.parametrize("envelope", [{"timestamp": "then"}, {"timestamp": None}, {"sequence_num": -1}])
def test_an_odd_envelope_does_not_lose_what_is_inside(envelope: dict[str, Any]) -> None:
    candles, bad = parse.read(candles_frame({"start": "1786279500"}, **envelope)).events
    assert isinstance(candles, CandleFrame)
    assert isinstance(bad, Unreadable)


def test_one_odd_event_costs_itself() -> None:
    frame = json.loads(candles_frame({"start": "1786279500"}))
    frame["events"] = [{"type": "snapshot"}, 5, *frame["events"]]
    said = parse.read(json.dumps(frame).encode()).events
    assert [type(one) for one in said] == [CandleFrame, Unreadable, Unreadable]


def test_a_wrong_time_settles_no_candle_that_still_runs(tmp_path: Path) -> None:
    live = venue(tmp_path)
    start = int(time.time()) // 300 * 300
    live.read(candles_frame({"start": start}, timestamp=us_to_iso(start * 1_000_000)))
    said = live.read(b'{"channel":"heartbeats","timestamp":"2098-01-01T00:00:00Z","sequence_num":3,"events":[{}]}')
    assert not [one for one in said if isinstance(one, CandleFrame)]


def test_every_product_of_a_refusal_is_named() -> None:
    said = parse.read(b'{"type":"error","message":"failed to subscribe: A-USD, NOPE-USD are not valid"}').events
    assert [one.product_id for one in said if isinstance(one, SubscriptionRefused)] == ["A-USD", "NOPE-USD"]


def test_a_refused_product_is_named() -> None:
    (said,) = parse.read(b'{"type":"error","message":"failed to subscribe: NOPE-USD is not a valid product"}').events
    assert isinstance(said, SubscriptionRefused)
    assert said.product_id == "NOPE-USD"


def test_nobody_bids_is_no_ticker_and_no_error() -> None:
    frame = b'{"channel":"ticker","timestamp":"2026-08-09T21:05:48Z","sequence_num":1,"events":[{"type":"update","tickers":[{"product_id":"BTC-USD","best_bid":"","best_ask":""}]}]}'  # noqa: E501
    assert parse.read(frame).events == []


@pytest.mark.parametrize("body", [b"<html>", b"{}x", b'{"message":"x"}', b'[{"trade_id":1}]', b'[{"trade_id'])
def test_what_is_no_page_is_not_taken_for_an_empty_one(body: bytes) -> None:
    with pytest.raises(WrongAnswer):
        parse.rest_trades(body)


def test_lost_frames_are_noticed_within_a_connection_and_not_across_two(tmp_path: Path) -> None:
    live = venue(tmp_path)

    def lost(number: int) -> list[FramesLost]:
        frame = f'{{"channel":"heartbeats","timestamp":"2026-08-09T21:05:48Z","sequence_num":{number},"events":[]}}'
        return [one for one in live.read(frame.encode()) if isinstance(one, FramesLost)]

    live.opened()
    assert [lost(n) for n in (0, 1, 4, 3, 5)] == [[], [], [FramesLost(2)], [], []]
    live.opened()
    assert lost(17) == []


def candle(minute: int, close: str = "1", final: bool = False) -> CandleRow:
    return CandleRow(minute * 60_000_000, open="1", high="2", low="1", close=close, volume="3", final=final)


def test_a_candle_is_final_when_a_later_one_appears() -> None:
    book = CandleBook(300)
    first = book.take(CandleFrame("BTC-USD", 0, 300, [candle(0), candle(5)], snapshot=True))
    assert first is not None
    assert [row.final for row in first.rows] == [True, False]
    assert book.take(CandleFrame("BTC-USD", 0, 300, [candle(5)])) is None  # unchanged: nothing to publish
    changed = book.take(CandleFrame("BTC-USD", 0, 300, [candle(5, "1.5")]))
    assert changed is not None
    assert changed.rows == [candle(5, "1.5")]
    later = book.take(CandleFrame("BTC-USD", 0, 300, [candle(10)]))
    assert later is not None
    assert later.rows == [candle(5, "1.5", final=True), candle(10)]


def test_a_candle_of_a_market_that_went_quiet_becomes_final_with_time() -> None:
    book = CandleBook(300)
    book.take(CandleFrame("BTC-USD", 0, 300, [candle(5)]))
    assert book.settled(10 * 60_000_000) == []
    (frame,) = book.settled(10 * 60_000_000 + 10_000_000)
    assert frame.rows == [candle(5, final=True)]
    assert book.settled(20 * 60_000_000) == []


def test_a_running_candle_from_before_an_outage_is_not_called_final() -> None:
    book = CandleBook(300)
    book.take(CandleFrame("BTC-USD", 0, 300, [candle(5)]))
    book.forget()
    after = book.take(CandleFrame("BTC-USD", 0, 300, [candle(5, "9"), candle(10)], snapshot=True))
    assert after is not None
    assert after.rows == [candle(5, "9", final=True), candle(10)]


def texts_of(live: CoinbaseVenue, *products: str) -> list[str]:
    return [*live.opened(), *(live.subscribe(channel, products, 1) for channel in live.channels)]


def test_each_message_has_a_token_of_its_own_signed_by_the_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    live = venue(tmp_path, api_key="organizations/1/apiKeys/2", api_secret=pem(key).replace("\n", "\\n"))
    tokens = [json.loads(text)["jwt"] for text in texts_of(live, "BTC-USD")]
    assert len(set(tokens)) == len(tokens) == 4
    claims = jwt.decode(tokens[0], key.public_key(), algorithms=["ES256"])
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["nbf"]) == ("cdp", "organizations/1/apiKeys/2", 120)
    assert jwt.get_unverified_header(tokens[0])["kid"] == "organizations/1/apiKeys/2"


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    texts = [json.loads(text) for text in texts_of(venue(tmp_path), "BTC-USD", "ETH-USD")]
    assert [text["channel"] for text in texts] == ["heartbeats", "market_trades", "ticker", "candles"]
    assert all("jwt" not in text for text in texts)
    assert texts[1]["product_ids"] == ["BTC-USD", "ETH-USD"]


def test_a_refused_key_is_said_and_public_data_go_on(tmp_path: Path) -> None:
    live = venue(tmp_path, api_key="k", api_secret=pem(ec.generate_private_key(ec.SECP256R1())))
    (said,) = live.read(b'{"type":"error","message":"authentication failure"}')
    assert isinstance(said, VenueNotice)
    assert "COINBASE_API_KEY" in said.text
    assert all("jwt" not in text for text in texts_of(live, "BTC-USD"))


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("k", None, "COINBASE_API_SECRET is missing"),
        (None, "S3cret", "COINBASE_API_KEY is missing"),
        ("k", "not a key", "not an ECDSA"),
        ("k", pem(ed25519.Ed25519PrivateKey.generate()), "not an ECDSA"),
        ("k", pem(ec.generate_private_key(ec.SECP384R1())), "not an ECDSA"),
    ],
)
def test_a_wrong_key_is_one_sentence_without_the_secret(key: str | None, secret: str | None, words: str) -> None:
    with pytest.raises(WrongUse, match=words) as caught:
        tokens_of(SecretStr(key) if key else None, SecretStr(secret) if secret else None)
    if secret:
        assert secret not in str(caught.value)


def test_an_unknown_channel_is_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="unknown channel 'level2'; choose from market_trades, ticker, candles"):
        venue(tmp_path, channels="market_trades,level2")

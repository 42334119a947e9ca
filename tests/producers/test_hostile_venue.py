"""No frame ends a producer: each costs at most itself, and what is good beside it is published."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.runtime import now_us
from pipeline.core.times import us_to_iso
from tests.hostile_server import frame, hostile, shake_hands
from tests.venue_help import published, running, until

Env = Callable[..., dict[str, str]]


def kraken_trade(number: int, **changes: object) -> dict[str, object]:
    return {
        "symbol": "BTC/USD",
        "side": "sell",
        "price": 84095.7,
        "qty": 0.5,
        "ord_type": "limit",
        "trade_id": number,
        "timestamp": us_to_iso(now_us()),
    } | changes


def kraken(number: int, **changes: object) -> bytes:
    return json.dumps({"channel": "trade", "type": "update", "data": [kraken_trade(number, **changes)]}).encode()


def coinbase(number: int, **changes: object) -> bytes:
    row = {
        "product_id": "BTC-USD",
        "trade_id": str(number),
        "price": "65083.67",
        "size": "0.01",
        "time": us_to_iso(now_us()),
        "side": "SELL",
    } | changes
    event = {"type": "update", "trades": [row]}
    envelope = {"channel": "market_trades", "timestamp": us_to_iso(now_us()), "sequence_num": number}
    return json.dumps(envelope | {"events": [event]}).encode()


def binance(number: int, **changes: object) -> bytes:
    row = {"e": "trade", "E": now_us(), "s": "BTCUSD", "t": number, "p": "65083.67", "q": "0.01", "T": now_us()}
    return json.dumps(row | {"m": True, "M": True} | changes).encode()


def coinbase_candles(**changes: object) -> bytes:
    row = {
        "start": "1786279500",
        "high": "2",
        "low": "1",
        "open": "1",
        "close": "1",
        "volume": "1",
        "product_id": "BTC-USD",
    } | changes
    return json.dumps(
        {
            "channel": "candles",
            "timestamp": us_to_iso(now_us()),
            "sequence_num": 1,
            "events": [{"type": "snapshot", "candles": [row]}],
        }
    ).encode()


ANY = [
    b"",
    b"{",
    b"[]",
    b"5",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"[" * 500_000,
    b'{"a":' * 200_000,
    b"1" * 5000,
    b'{"channel":["trade"]}',
    b'{"channel":"trade"}',
    b'{"channel":"trade","data":5}',
    b'{"channel":{},"events":1}',
    b'{"channel":"trade","data":[' + b"1," * 400_000 + b"1]}",
    b'{"channel":"market_trades","events":{"type":1}}',
    b'{"method":"subscribe"}',
    b'{"method":[],"success":false}',
    b'{"method":"subscribe","result":[1]}',
    b'{"error":' + b'"x' * 1 + b"x" * 1_000_000 + b'"}',
    b'{"type":"error","message":{"a":1}}',
]
KRAKEN = [
    *ANY,
    kraken(1 << 63),
    kraken(10**400),
    kraken(7, trade_id="x"),
    kraken(7, price="NaN"),
    kraken(7, timestamp="9"),
    kraken(7, symbol="\ud800/USD"),
    kraken(7, symbol="SOL/USD"),
    kraken(1 << 61),
    kraken(7, price=10**300),
    b'{"channel":"ticker","data":[{"symbol":"BTC/USD","bid":NaN}]}',
    b'{"channel":"trade","data":[' + b",".join([b'{"symbol":"X%d/USD"}' % n for n in range(9_000)]) + b"]}",
]
COINBASE = [
    *ANY,
    coinbase(1 << 63),
    coinbase(7, trade_id="9" * 5000),
    coinbase(7, size="Infinity"),
    coinbase(7, time="9"),
    coinbase(7, product_id="SOL-USD"),
    coinbase(1 << 61),
    coinbase_candles(start=10**20),
    coinbase_candles(close="NaN"),
    coinbase_candles(start="1786279500000"),
    coinbase_candles(volume=10**400),
    coinbase_candles(product_id=None),
    b'{"channel":"subscriptions","events":[{"subscriptions":{"ticker":[5,{}],"x":7}}]}',
]


BINANCE = [
    *ANY,
    binance(1 << 63),
    binance(10**400),
    binance(7, t="x"),
    binance(7, p="NaN"),
    binance(7, T=10**300),
    binance(7, E=[]),
    binance(7, s="\ud800"),
    binance(7, s="SOLUSD"),
    binance(7, s={"a": 1}),
    binance(1 << 61),
    *[b'{"result":null,"id":%d}' % number for number in (0, 1, 1, 1, 2, 1 << 70)],
    b'{"code":2,"msg":{"a":1},"id":[1]}',
    b'{"u":1,"s":"BTCUSD","b":"x"}',
]


@pytest.mark.parametrize(
    ("venue", "good", "bad"),
    [("kraken", kraken, KRAKEN), ("coinbase", coinbase, COINBASE), ("binance", binance, BINANCE)],
)
def test_frames_of_all_kinds_end_nothing(
    venue: str, good: Callable[[int], bytes], bad: list[bytes], env: Env, tmp_path: Path
) -> None:
    connections: list[int] = []

    def serve(peer: socket.socket, over: threading.Event) -> None:
        shake_hands(peer)
        connections.append(1)
        peer.settimeout(30)
        number = 1000
        for one in bad:
            for part in (good(number), one, good(number + 1)):
                peer.sendall(frame(part))
            number += 2
        while not over.wait(0.2):
            peer.sendall(frame(good(number)))
            number += 1

    wanted = 2 * len(bad)
    with hostile(serve) as url:
        settings = env(
            KRAKEN_WS_URL=url,
            COINBASE_WS_URL=url,
            KRAKEN_REST_URL="http://127.0.0.1:9",
            KRAKEN_PRODUCT_IDS="BTC/USD",
            COINBASE_REST_URL="http://127.0.0.1:9",
            COINBASE_PRODUCT_IDS="BTC-USD",
            BINANCE_WS_URL=url,
            BINANCE_REST_URL="http://127.0.0.1:9",
            BINANCE_PRODUCT_IDS="BTC-USD",
            BINANCE_ENABLED="true",
        )
        with running(f"producers.{venue}", settings, tmp_path) as program:
            program.wait_for("connection.status", status="open")

            def ids() -> set[int]:
                records = published(settings, "trades", "trades", f"{venue}.btc-usd")
                return {row["trade_id"] for record in records for row in record["trades"]}

            until("the good trades", lambda: len(ids() & set(range(1000, 1000 + wanted))) == wanted)
            until("letters", lambda: len(published(settings, "dead_letter", "dead-letters", venue)) > 10)
            until(
                "the head",
                lambda: [one for one in published(settings, "head", "control", "heads") if one["newest_id"] > 1000],
            )
            heads = published(settings, "head", "control", "heads")
            assert max(one["newest_id"] for one in heads) < 10_000  # a trade with the id 2^61 did not poison it
            letters = published(settings, "dead_letter", "dead-letters", venue)
            assert max(len(letter["payload"]) for letter in letters) <= 1 << 20
            assert len(letters) < 200
            assert program.health()[0] == 200
            assert len(connections) == 1
            assert program.log.stat().st_size < 1_000_000
            assert program.end() == 0

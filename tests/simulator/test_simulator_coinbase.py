"""The simulated Coinbase must have the recorded form, and its ids and cursors the documented meaning."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from simulator.testing import Simulator, running_simulator
from simulator.times import rfc3339_go
from tests.simulator_client import Client, connect, get, recorded, shape

PRODUCTS = ["BTC-USD", "ETH-USD"]
SESSION = "coinbase/advanced_trade_session_10s.jsonl"
OPPOSITE = {"BUY": "sell", "SELL": "buy"}


async def subscribe(client: Client, channel: str, products: list[str] = PRODUCTS, **more: Any) -> None:
    await client.send(type="subscribe", channel=channel, product_ids=products, **more)


def kind_of(frame: Any) -> tuple[str, str]:
    return frame.get("channel", ""), frame["events"][0].get("type", "") if frame.get("events") else ""


def test_every_channel_has_the_recorded_form(simulator: Simulator) -> None:
    """Names, order and types, channel by channel, and `sequence_num` over all of them without a jump."""

    async def run() -> None:
        theirs = {kind_of(frame): frame for frame in reversed(recorded(SESSION))}
        wanted = set(theirs)
        ours: dict[tuple[str, str], Any] = {}
        numbers = []
        async with connect(simulator.environment()["COINBASE_WS_URL"]) as client:
            for channel in ("market_trades", "candles", "ticker", "heartbeats"):
                await subscribe(client, channel)
            while wanted - set(ours):
                frame = await client.receive()
                numbers.append(frame["sequence_num"])
                ours.setdefault(kind_of(frame), frame)
        assert numbers == list(range(len(numbers)))
        for kind in wanted:
            if kind[0] == "subscriptions":
                assert list(ours[kind]) == list(theirs[kind])
                assert ours[kind]["events"] == [{"subscriptions": {"market_trades": PRODUCTS}}]
            else:
                assert shape(ours[kind]) == shape(theirs[kind]), kind
        assert len(ours["market_trades", "snapshot"]["events"][0]["trades"]) == 100
        assert len(ours["candles", "snapshot"]["events"][0]["candles"]) > 1

    asyncio.run(run())


async def _collect(client: Client, product: str, count: int) -> list[list[dict[str, Any]]]:
    """Frames of one product's trades, the snapshot first, until so many trades have come."""
    frames: list[list[dict[str, Any]]] = []
    while sum(map(len, frames)) < count:
        frame = await client.receive()
        if frame.get("channel") == "market_trades":
            trades = frame["events"][0]["trades"]
            if trades[0]["product_id"] == product:
                frames.append(trades)
    return frames


def test_the_stream_is_the_tape_newest_first_with_the_makers_side(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["COINBASE_WS_URL"]) as client:
            await subscribe(client, "market_trades")
            frames = await _collect(client, "BTC-USD", 700)
        for trades in frames:
            numbers = [int(trade["trade_id"]) for trade in trades]
            assert numbers == sorted(numbers, reverse=True)
        trades = [trade for frame in frames for trade in reversed(frame)]
        ids = [int(trade["trade_id"]) for trade in trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        truth = simulator.truth("coinbase", "BTC-USD", ids[0], ids[-1])
        assert [
            (int(t["trade_id"]), Decimal(t["price"]), Decimal(t["size"]), OPPOSITE[t["side"]], t["time"])
            for t in trades
        ] == [
            (t["id"], Decimal(t["price"]), Decimal(t["quantity"]), t["taker_side"], rfc3339_go(t["ts_ns"]))
            for t in truth
        ]

    asyncio.run(run())


def test_a_second_client_sees_snapshot_and_updates_meet(simulator: Simulator) -> None:
    """A snapshot taken in the middle of a batch must not leave out what the next update does not carry."""

    async def run() -> None:
        url = simulator.environment()["COINBASE_WS_URL"]
        async with connect(url) as first:
            await subscribe(first, "market_trades")
            await _collect(first, "BTC-USD", 200)
            for _ in range(5):
                async with connect(url) as second:
                    await subscribe(second, "market_trades", ["BTC-USD"])
                    frames = await _collect(second, "BTC-USD", 150)
                    ids = [int(trade["trade_id"]) for frame in frames for trade in reversed(frame)]
                    assert ids == list(range(ids[0], ids[0] + len(ids)))

    asyncio.run(run())


def test_whoever_does_not_subscribe_is_sent_away(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["COINBASE_WS_URL"]) as client:
            with pytest.raises(ConnectionError):
                await client.receive()

    asyncio.run(run())


def test_refusals_have_no_channel_and_the_good_products_run(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["COINBASE_WS_URL"]) as client:
            await subscribe(client, "market_trades", ["XBT-USD", "BTC-USD"])
            refusal = await client.receive()
            assert refusal == {
                "type": "error",
                "message": "failed to subscribe: XBT-USD is not a valid product",
            }
            await client.until(lambda frame: kind_of(frame) == ("market_trades", "update"))
            await subscribe(client, "user")
            refusal = await client.until(lambda frame: "channel" not in frame)
            assert refusal["message"] == "authentication failure"

    asyncio.run(run())


def _token(key: ec.EllipticCurvePrivateKey, life_s: int = 120) -> str:
    now = int(time.time())
    claims = {"sub": "organizations/a/apiKeys/b", "iss": "cdp", "nbf": now, "exp": now + life_s}
    headers = {"kid": claims["sub"], "nonce": secrets.token_hex()}
    return jwt.encode(claims, key, algorithm="ES256", headers=headers)


def test_a_token_must_be_signed_fresh_and_new(tmp_path: Path) -> None:
    """A producer that signs with the wrong key, or sends one token twice, must hear it here and not at the venue."""
    right, wrong = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = tmp_path / "key.pem"
    public = right.public_key()
    pem.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    used = _token(right)
    tokens = [(used, True), (used, False), (_token(wrong), False), (_token(right, 900), False), ("x.y", False)]

    async def run(url: str) -> None:
        async with connect(url) as client:
            for token, good in tokens:
                await subscribe(client, "heartbeats", [], jwt=token)
                answer = await client.until(lambda frame: frame.get("channel") in (None, "subscriptions"))
                assert ("channel" in answer) == good
            await subscribe(client, "user", [], jwt=_token(right))
            await client.until(lambda frame: frame.get("channel") == "subscriptions")

    with running_simulator(coinbase_public_key=str(pem)) as running:
        asyncio.run(run(running.environment()["COINBASE_WS_URL"]))


def test_rest_cursors_walk_to_every_trade(simulator: Simulator) -> None:
    """`after` means older; a walk by CB-AFTER visits each id once and the numbers are the tape's."""
    base = simulator.environment()["COINBASE_REST_URL"] + "/products/BTC-USD/trades"
    newest = simulator.now()["coinbase", "BTC-USD"]
    cursor, rows = newest + 1, []
    for _ in range(3):
        status, text, headers = asyncio.run(get(f"{base}?limit=1000&after={cursor}"))
        page = json.loads(text)
        assert (status, len(page)) == (200, 1000)
        assert (headers["CB-BEFORE"], headers["CB-AFTER"]) == (str(page[0]["trade_id"]), str(page[-1]["trade_id"]))
        cursor = int(headers["CB-AFTER"])
        rows += page
    assert [row["trade_id"] for row in rows] == list(range(newest, newest - 3000, -1))
    truth = simulator.truth("coinbase", "BTC-USD", newest - 2999, newest)
    for row, true in zip(reversed(rows), truth, strict=True):
        assert (Decimal(row["price"]), Decimal(row["size"])) == (Decimal(true["price"]), Decimal(true["quantity"]))
        assert {"buy": "sell", "sell": "buy"}[row["side"]] == true["taker_side"]
    newer = json.loads(asyncio.run(get(f"{base}?before={newest - 5}&after={newest + 1}"))[1])
    assert [row["trade_id"] for row in newer] == list(range(newest, newest - 5, -1))


def test_rest_products_ticker_candles_time_and_errors(simulator: Simulator) -> None:
    base = simulator.environment()["COINBASE_REST_URL"]

    async def ask(path: str) -> Any:
        return json.loads((await get(base + path))[1])

    assert [product["id"] for product in asyncio.run(ask("/products"))] == PRODUCTS
    assert set(asyncio.run(ask("/products/BTC-USD/ticker"))) >= {"trade_id", "price", "size", "time", "bid", "ask"}
    rows = asyncio.run(ask("/products/BTC-USD/candles?granularity=60"))
    starts = [row[0] for row in rows]
    assert len(rows) == 300
    assert starts == sorted(starts, reverse=True)
    assert all(low <= min(opened, close) and high >= max(opened, close) for _, low, high, opened, close, _ in rows)
    assert set(asyncio.run(ask("/time"))) == {"iso", "epoch"}
    wide = "/products/BTC-USD/candles?granularity=60&start=1795000000&end=1795100000"
    assert asyncio.run(get(base + wide))[0] == 400
    assert asyncio.run(get(f"{base}/products/NO-USD/trades"))[0] == 404

    async def nameless() -> int:
        url = f"{base}/products/BTC-USD/trades"
        async with (
            aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as session,
            session.get(url) as response,
        ):
            return response.status

    assert asyncio.run(nameless()) == 400


def test_the_rest_limit_answers_429_and_is_counted() -> None:
    with running_simulator(seed=3) as running:
        url = running.environment()["COINBASE_REST_URL"] + "/time"

        async def ask() -> list[int]:
            return list(await asyncio.gather(*((_status(url)) for _ in range(60))))

        statuses = asyncio.run(ask())
        assert set(statuses) == {200, 429}
        counted = running.stats()["venues"]["coinbase"]["/coinbase/exchange/time"]
        assert counted["violations"] == statuses.count(429)
        assert counted["requests"] == 60


async def _status(url: str) -> int:
    return (await get(url))[0]


def test_the_recorded_session_is_replayed(simulator: Simulator) -> None:
    async def run() -> None:
        theirs = recorded(SESSION)
        async with connect(simulator.replay_url("coinbase")) as client:
            await subscribe(client, "market_trades")
            assert [await client.receive() for _ in theirs] == theirs

    asyncio.run(run())

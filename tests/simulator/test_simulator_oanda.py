"""The simulator's OANDA refuses what the venue refuses, and samples what it streams."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from simulator.testing import Simulator, running_simulator
from simulator.venues.oanda.listing import ACCOUNT, TOKEN

FIELDS = ["type", "time", "bids", "asks", "closeoutBid", "closeoutAsk", "status", "tradeable", "instrument"]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=3) as started:
        yield started


def ask(simulator: Simulator, path: str, token: str = TOKEN) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=20)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse()


def stream(names: str, account: str = ACCOUNT) -> str:
    return f"/oanda/stream/v3/accounts/{account}/pricing/stream?instruments={names}"


def test_prices_are_at_least_a_quarter_of_a_second_apart(simulator: Simulator) -> None:
    """Prevents tests against a venue that streams more than OANDA does."""
    answer = ask(simulator, stream("EUR_USD,XAU_USD"))
    assert answer.getheader("Transfer-Encoding") == "chunked"
    lines: list[dict[str, Any]] = []

    def times(name: str) -> list[datetime]:
        return [datetime.fromisoformat(line["time"][:26]) for line in lines if line.get("instrument") == name]

    # A price may stand still for many seconds, so what is awaited is prices of both, not a number of lines.
    while min(len(times("EUR_USD")), len(times("XAU_USD"))) < 5 or lines[-1]["type"] != "HEARTBEAT":
        lines.append(json.loads(answer.readline()))
    answer.close()
    assert {line["instrument"] for line in lines[:2]} == {"EUR_USD", "XAU_USD"}  # the prices in force
    assert list(lines[0]) == FIELDS
    for name in ("EUR_USD", "XAU_USD"):
        assert all((b - a).total_seconds() >= 0.25 for a, b in pairwise(times(name)[1:]))


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        (stream("EUR_USD"), "wrong", 401),
        (stream("EUR_USD", "999"), TOKEN, 404),
        (stream("EUR_USD,NOPE_USD"), TOKEN, 400),
        (stream(""), TOKEN, 400),
        ("/oanda/rest/v3/accounts", TOKEN, 200),
        ("/oanda/rest/v3/accounts", "wrong", 401),
    ],
)
def test_what_is_wrong_is_refused(path: str, token: str, status: int, simulator: Simulator) -> None:
    answer = ask(simulator, path, token)
    assert answer.status == status
    body = json.loads(answer.read())
    assert ("errorMessage" in body) == (status != 200)

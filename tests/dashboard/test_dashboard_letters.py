"""Letters of strangers on the page: any is shown, none hides the others or costs more than it should."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumers import letter_box
from dashboard import shared
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name
from pipeline.core.runtime import now_us
from tests.dashboard_help import Client, asked

HOSTILE = {
    "nesting": b"[" * 60_000 + b"]" * 60_000,
    "surrogate": b'{"a":"\\ud800"}',
    "wide": b'{"a":%d}' % 2**70,
    "digits": b"9" * 50_000,
    "infinite": b"[1e999,NaN]",
    "escape": b'"\x1b[2J"',
    "markup": b"<script>alert(1)</script>",
    "bytes": bytes(range(256)),
    "empty": b"",
    "long": b"x" * 3_000_000,
}


def letter(payload: bytes, **fields: Any) -> dict[str, Any]:
    return {
        "source": "trades-writer",
        "topic": "persistent://t/trades/kraken.btc-usd",
        "message_id": "(1,2,-1,0)",
        "row": 3,
        "reason": "price",
        "detail": "zero",
        "at_us": now_us(),
        "payload": payload,
        **fields,
    }


def test_any_letter_is_shown(stop: Any, bus: Bus) -> None:
    """Prevents one letter that hides all others, or a payload of some MB in every answer."""
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    for name, payload in HOSTILE.items():
        publisher.send(letter(payload, reason=name))
    publisher.send(letter(b"{}", reason="late", at_us=2**63 - 1))
    publisher.send(letter(b"{}", reason="early", at_us=-(2**63), detail="\x1b[2J" + "d" * 100_000, topic="../x\x00"))
    publisher.send(letter(b'{"id": 9007199254740993}', reason="exact"))
    assert publisher.flush(60)

    async def ask(client: Client) -> tuple[dict[str, Any], int]:
        response = await client.get("/api/dead-letters", headers={"Host": "localhost"})
        assert response.status == 200
        return await response.json(), len(await response.read())

    found, size = asked(ask)
    assert {one["reason"] for one in found["letters"]} == {*HOSTILE, "late", "early", "exact"}
    assert size < 100_000
    for one in found["letters"]:
        assert "\x1b" not in json.dumps(one, ensure_ascii=False)
        assert 0 <= one["at_us"] <= 2**53
    assert next(one for one in found["letters"] if one["reason"] == "exact")["text"].count("9007199254740993") == 1


def test_only_the_newest_letters_are_read(stop: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the page from reading all letters of a week every three seconds, once for each page."""
    read: list[int] = []
    tries: list[int] = []
    original = letter_box.read

    def counted(*arguments: Any, **more: Any) -> Any:
        found = original(*arguments, **more)
        read.append(len(found))
        return found

    monkeypatch.setattr(letter_box, "read", counted)
    monkeypatch.setattr(shared, "KEPT_S", -1.0)
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    for number in range(5_000):
        publisher.send(letter(b'{"n": %d}' % number))
    assert publisher.flush(60)

    async def ask(client: Client) -> dict[str, Any]:
        for _ in range(5):
            response = await client.get("/api/dead-letters", headers={"Host": "localhost"})
            tries.append(len(read))
        found: dict[str, Any] = await response.json()
        return found

    found = asked(ask)
    assert [one["payload"]["n"] for one in found["letters"]] == list(range(4_999, 4_899, -1))
    assert found["total"] >= 5_000
    assert max(read) <= letter_box.NEWEST
    assert set(tries) == {tries[0]}  # not again at the later questions, since nothing was added

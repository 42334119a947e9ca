"""Two feeds as one: an hour that one of them cannot give is looked for at the other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.times import HOUR_US
from producers.dukascopy.feeds import bi5
from producers.dukascopy.feeds import json as jetta
from simulator.testing import running_simulator
from simulator.venues.dukascopy.hours import Quotes, encode_bi5
from tests.dukascopy_help import counts, load, made_hours, rows, states, us, vendor, warm, writer

Environment = Callable[..., dict[str, str]]
DAY = range(us("2019-02-04"), us("2019-02-05"), HOUR_US)
FLAGS = ("--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05")
HOUR = us("2019-02-04T12")
BI5_HOUR, JSON_HOUR = "bi5/" + bi5.hour_path("EURUSD", HOUR), "json/" + jetta.hour_path("EUR-USD", HOUR)


def _settings(env: Environment, feed: Any, **more: object) -> dict[str, str]:
    made = env(
        **feed.environment(),
        DUKASCOPY_FEED="auto",
        DUKASCOPY_MAX_RATE=200,
        DUKASCOPY_RETRY_SECONDS=0.01,
        DUKASCOPY_CACHE="false",
        **more,
    )
    for name in ("json", "bi5"):
        warm(made, name, 200)
    return made


def _reshaped(body: bytes) -> bytes:
    return json.dumps({"version": 2, "data": [json.loads(body)]}).encode()


SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "another shape": _reshaped,
    "a list": lambda body: b"[" + body + b"]",
    "an empty object": lambda _: b"{}",
    "nulls": lambda _: b'{"times": null, "asks": null, "bids": null, "ask": null, "bid": null}',
    "times that are no list": lambda _: b'{"times": {}, "asks": [], "bids": [], "ask": null, "bid": null}',
    "a bare number": lambda _: b"17",
    "cut off": lambda body: body[: len(body) // 2],
    "objects by the million": lambda _: b'{"times":[' + b"{}," * 3_000_000 + b"{}]}",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_in_another_shape_counts_as_a_failure_and_bi5_is_asked(
    env: Environment, database_url: str, shape: str
) -> None:
    """Prevents a load that comes to nothing because answers with status 200 were taken for successes."""
    good = made_hours("EURUSD", "EUR-USD", DAY)
    answers = {path: SHAPES[shape](body) if path.startswith("json/") else body for path, body in good.items()}
    with vendor(answers.get) as feed:
        environment = _settings(env, feed)
        with writer(environment):
            done = load(environment, *FLAGS)
        assert done.returncode == 0, done.stdout + done.stderr
    assert states(database_url, "EUR-USD") == {"present": 24}
    assert rows(database_url, "SELECT DISTINCT feed FROM quote_hours") == [("bi5",)]
    assert '"event": "feed.down"' in done.stdout
    assert '"event": "feed.switched"' in done.stdout
    asked = [path for path in feed.asked if path.startswith("json/ticks")]
    assert len(asked) <= 5 + 4  # it rests after five; four connections may be under way


def test_a_damaged_hour_is_taken_from_the_other_feed_and_the_feed_is_kept(env: Environment, database_url: str) -> None:
    """Prevents an hour left open, or called empty, because of one feed; and a change-over because of one hour."""
    answers: dict[str, bytes | None] = dict(made_hours("EURUSD", "EUR-USD", DAY))
    answers[JSON_HOUR] = b'{"times": "damaged"}'
    answers["json/" + jetta.hour_path("EUR-USD", HOUR + HOUR_US)] = None  # 404
    with vendor(answers.get) as feed:
        environment = _settings(env, feed)
        with writer(environment):
            done = load(environment, *FLAGS)
        assert done.returncode == 0, done.stdout + done.stderr
    assert states(database_url, "EUR-USD") == {"present": 24}
    found = dict(rows(database_url, "SELECT feed, count(*) FROM quote_hours GROUP BY 1"))
    assert found == {"json": 22, "bi5": 2}


def test_an_hour_that_no_feed_gives_costs_the_hour_and_both_reasons_are_told(
    env: Environment, database_url: str
) -> None:
    """Prevents a day that is lost with an hour, and an hour called empty because one feed has no file of it."""
    answers: dict[str, bytes | None] = dict(made_hours("EURUSD", "EUR-USD", DAY))
    answers[JSON_HOUR] = b'{"times": "damaged"}'
    answers[BI5_HOUR] = b"<html>"
    second = HOUR + 2 * HOUR_US
    answers["json/" + jetta.hour_path("EUR-USD", second)] = b"{}"
    answers["bi5/" + bi5.hour_path("EURUSD", second)] = None
    with vendor(answers.get) as feed:
        environment = _settings(env, feed)
        with writer(environment):
            for _ in range(2):
                failed = load(environment, *FLAGS)
                assert failed.returncode == 1, failed.stdout + failed.stderr
    assert states(database_url, "EUR-USD") == {"present": 22}
    (first, other) = [line for line in failed.stderr.splitlines() if "missing from" in line]
    assert "1 hour missing from 2019-02-04 12:00" in first
    assert all(f"{feed}: " in first for feed in ("json", "bi5"))
    assert "1 hour missing from 2019-02-04 14:00" in other
    assert "json: " in other
    assert "bi5: not found (404)" in other


def test_one_instrument_that_cannot_be_stored_costs_no_other(
    env: Environment, database_url: str, tmp_path: Path
) -> None:
    """Prevents a run of many instruments that ends at the one whose scale is wrong."""
    own = tmp_path / "own.json"
    own.write_text('{"GBPUSD": {"asset_class": "forex", "price_scale": 3}}')  # the vendor's has five decimals
    answers = made_hours("GBPUSD", "GBP-USD", DAY) | made_hours("EURUSD", "EUR-USD", DAY)
    with vendor(answers.get) as feed:
        environment = _settings(env, feed, DUKASCOPY_INSTRUMENTS_FILE=own)
        with writer(environment):
            done = load(environment, "--instruments", "gbp/usd,EUR-USD", *FLAGS[2:])
        assert done.returncode == 1, done.stdout + done.stderr
    assert states(database_url, "EUR-USD") == {"present": 24}
    assert states(database_url, "GBP-USD") == {}
    assert "GBPUSD: 24 hours missing" in done.stderr
    assert "price_scale" in done.stderr


def test_one_bad_row_costs_the_row(env: Environment, database_url: str) -> None:
    """Prevents an hour that is refused, or asked for ever, because of one quote without a size."""
    step = np.arange(10, dtype=np.int64)
    sizes = np.where(step == 4, math.nan, 1.5)
    bodies = {BI5_HOUR: encode_bi5(Quotes(step * 1000, step + 114_003, step + 114_000, sizes, np.full(10, 1.5)))}
    late = step.copy()
    late[7] = 3_600_001
    second = "bi5/" + bi5.hour_path("EURUSD", HOUR + HOUR_US)
    bodies[second] = encode_bi5(Quotes(late, step + 114_003, step + 114_000, np.full(10, 1.5), np.full(10, 1.5)))
    third = json.loads(made_hours("EURUSD", "EUR-USD", [HOUR + 2 * HOUR_US]).popitem()[1])
    third["askVolumes"][3] = "much"
    bodies["json/" + jetta.hour_path("EUR-USD", HOUR + 2 * HOUR_US)] = json.dumps(third).encode()
    with vendor(bodies.get) as feed:
        environment = _settings(env, feed, DUKASCOPY_EMPTY_CONFIRM_SECONDS=0)
        flags = (*FLAGS[:2], "--from", "2019-02-04T12", "--to", "2019-02-04T15")
        with writer(environment):
            once = load(environment, *flags)
            assert once.returncode == 1, once.stdout + once.stderr
            assert "3 hours missing from 2019-02-04 12:00: some of its rows were refused" in once.stderr
            assert states(database_url, "EUR-USD") == {"partial": 3}
            assert counts(database_url) == {"EUR-USD": 27}
            done = load(environment, *flags)
            assert done.returncode == 0, done.stdout + done.stderr
    assert states(database_url, "EUR-USD") == {"present": 3}
    assert counts(database_url) == {"EUR-USD": 27}


def test_auto_changes_over_when_the_json_feed_is_down(env: Environment, database_url: str) -> None:
    """No data though one of two feeds works."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="auto", DUKASCOPY_RETRY_SECONDS=0.01)
        for feed in ("json", "bi5"):
            warm(environment, feed, 10)
        with writer(environment):
            simulator.fault("5xx", "dukascopy", endpoint="/v1/", seconds=3600)
            done = load(environment, "--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05")
            assert done.returncode == 0, done.stdout + done.stderr
            assert '"event": "feed.switched"' in done.stdout
            assert counts(database_url) == {"EUR-USD": 136_741}
            assert rows(database_url, "SELECT DISTINCT feed FROM quote_hours") == [("bi5",)]

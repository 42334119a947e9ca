"""The acceptance list of a venue: it holds for the venues that there are, and names what is wrong with a capture."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from judge.venue_check import frames_of, points
from pipeline.core.errors import WrongUse
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import PROJECT, venue_sections
from tests.venues.toy_venue import ADAPTER
from venues.registry import adapters, vendors

RECORDINGS = PROJECT / "simulator" / "recordings"
CAPTURES = {
    "kraken": RECORDINGS / "kraken" / "ws_v2_trade_session.jsonl",
    "coinbase": RECORDINGS / "coinbase" / "advanced_trade_session_10s.jsonl",
}


def failed(name: str, frames: list[bytes]) -> dict[str, list[str]]:
    return {what: wrong for what, wrong in points(adapters()[name], frames) if wrong}


def test_whatever_has_a_folder_is_known_everywhere() -> None:
    """Prevents a venue that one program knows and another does not, and two programs on one port."""
    folders = {file.parent.name for file in (PROJECT / "venues").glob("*/adapter.py")}
    assert set(vendors()) == folders
    assert set(adapters()) == set(venue_sections()) == folders - {"dukascopy"}  # which is not live
    assert {name: vendor.name for name, vendor in vendors().items()} == {name: name for name in folders}
    conf = (PROJECT / "supervisord.conf").read_text()
    for name, adapter in adapters().items():
        assert adapter.name == name
        assert BY_NAME[name].module == f"producers.{name}"
        assert (PROJECT / "producers" / f"{name}.py").exists()
        assert f"\n[program:{name}]\n" in conf
    offsets = [one.offset for one in BY_NAME.values()]
    assert len(offsets) == len(set(offsets))


def test_the_recorded_session_of_kraken_fulfils_the_list() -> None:
    """Prevents a list that no venue can fulfil."""
    assert failed("kraken", frames_of(CAPTURES["kraken"])) == {}


def test_the_recorded_session_of_coinbase_fulfils_the_list() -> None:
    """Prevents a recorder's own format from being taken for frames, what was sent included."""
    wrong = failed("coinbase", frames_of(CAPTURES["coinbase"]))
    assert set(wrong) <= {"every frame is understood"}, wrong  # a channel was recorded that we do not subscribe


def test_a_strangers_venue_fulfils_the_list() -> None:
    """Prevents a list that holds only for the venues for which it was made."""
    row = {"at": 1_795_726_015_158_702, "price": "87803", "size": "0.5", "taker": "buy"}
    trades = [{"kind": "trade", "market": "BTC_USD", "trades": [{"n": n, **row}]} for n in range(1, 9)]
    frames = [json.dumps(one).encode() for one in ({"kind": "subscribed", "market": "BTC_USD", "id": 3}, *trades)]
    assert [what for what, wrong in points(ADAPTER, frames) if wrong] == []
    lost = {what for what, wrong in points(ADAPTER, frames[:4] + frames[5:]) if wrong}
    assert lost == {"trade ids are contiguous"}


def test_what_is_wrong_is_named() -> None:
    """Prevents a list on which everything is ticked off."""
    frames = [frame for frame in frames_of(CAPTURES["kraken"]) if b'"trade_id"' in frame]
    trades = json.loads(frames[-1])
    first = trades["data"][0]
    hole = json.dumps(trades | {"data": [first | {"trade_id": first["trade_id"] + 5}]}).encode()
    odd = json.dumps(trades | {"data": [first | {"price": "cheap", "trade_id": first["trade_id"] + 6}]}).encode()
    wrong = failed("kraken", [*frames, hole, odd])
    assert "ids are missing" in wrong["trade ids are contiguous"][0]
    assert "cheap" in wrong["every frame is understood"][0]
    assert wrong["subscriptions are acknowledged by product"]


@pytest.mark.parametrize(("content", "said"), [("", "contains no frame"), ("\n\n", "contains no frame")])
def test_a_capture_without_frames_is_refused(tmp_path: Path, content: str, said: str) -> None:
    """Prevents a list that holds because nothing was looked at."""
    capture = tmp_path / "capture"
    capture.write_text(content)
    with pytest.raises(WrongUse, match=said):
        frames_of(capture)


def test_the_command_answers_in_sentences(python: str, env: Callable[..., dict[str, str]]) -> None:
    """Prevents a stranger's first look at the list from being a traceback."""

    def check(name: str, capture: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "judge.venue_check", name, capture]
        return subprocess.run(command, capture_output=True, text=True, env=env(), cwd=PROJECT)

    good = check("kraken", str(CAPTURES["kraken"]))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "every point holds" in good.stdout
    unknown = check("nowhere", str(CAPTURES["kraken"]))
    assert unknown.returncode == 2
    assert "Unknown venue nowhere" in unknown.stderr

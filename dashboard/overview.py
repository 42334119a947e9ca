"""What `/api/state` says: everything that runs and is stored, asked once for all pages, and never older than it looks.

Asking takes 0.2 s, and as long as time-outs allow where broker or database are frozen. So it is asked in one thread of
its own; whoever waits longer than `WAIT_S` gets the last answer, which then says that it is old and is not well.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from dashboard.shared import Shared
from pipeline.core.errors import Unavailable
from pipeline.core.times import to_us
from pipeline.ops import collect

WAIT_S = 5.0
FIRST_WAIT_S = 15.0  # there is no older answer yet; on a busy machine the first one takes seconds
# Texts of others, such as a program's reasons, and lists that a page can show.
LONGEST, MOST = 1_000, 2_000


_NOTHING: dict[str, Any] = {
    "programs": [],
    "instruments": [],
    "dead_letters": {},
    "products": [],
    "exchange_candles": [],
    "archive": [],
}


class Overview:
    """`await overview.now()`."""

    def __init__(self) -> None:
        self._shared = Shared("state", self._ask)
        self.close = self._shared.close

    async def now(self) -> dict[str, Any]:
        """The state as JSON can carry it. Raises `Unavailable` when there was none yet within `FIRST_WAIT_S`."""
        done = await self._shared.renew(WAIT_S if self._shared.newest else FIRST_WAIT_S)
        if self._shared.newest is None:
            raise Unavailable(f"the state is being asked for; no answer within {FIRST_WAIT_S:.0f} s")
        asked_s, found = self._shared.newest
        age_s = time.monotonic() - asked_s
        if not done:  # nobody may take this for how things are now
            late = f"the state shown is {age_s:.0f} s old: broker, database or a program does not answer"
            found = {**found, "ok": False, "problems": [late, *found["problems"]]}
        return {**found, "age_s": round(age_s, 1)}

    def _ask(self) -> dict[str, Any]:
        """In the thread."""
        try:
            return plain(collect.collect())
        except Exception as error:  # one program's odd answer must not hide all others for ever
            text = f"the state cannot be told: {type(error).__name__}: {str(error)[:LONGEST]}"
            _, last = self._shared.newest or (0.0, _NOTHING)
            return {**last, "ok": False, "problems": [text]}


def plain(found: collect.State) -> dict[str, Any]:
    """Times as seconds since 1970; `complete` as status says it; texts and numbers that any browser can read."""
    made = _bounded(found.json())
    for row, one in zip(made["instruments"], found.instruments, strict=False):
        row["complete"] = one.complete
        row["unknown"] = one.unknown
    for program in made["programs"]:
        offset = program["health"].get("clock_offset_s")
        program["clock_offset_s"] = offset if isinstance(offset, (int, float)) else None
    result: dict[str, Any] = made
    return result


def _bounded(value: Any, depth: int = 0) -> Any:
    """A copy of what programs said, whatever they said."""
    if isinstance(value, dict):
        items = list(value.items())[:MOST] if depth < 8 else []
        return {_bounded(str(key)): _bounded(one, depth + 1) for key, one in items}
    if isinstance(value, (list, tuple)):
        return [_bounded(one, depth + 1) for one in value[:MOST]] if depth < 8 else []
    if isinstance(value, datetime):
        return to_us(value) // 1_000_000
    if isinstance(value, str):
        text = value if len(value) <= LONGEST else value[:LONGEST] + "…"
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if abs(value) < 1e300 else None  # neither NaN nor infinite
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return str(value)
    return value

"""`/api/state`: the state of the pipeline, collected once for all pages; stale states are marked as such.

Collecting takes 0.2 s, or as long as the timeouts if broker or database are frozen. So it runs in one thread; a request
that waits longer than `WAIT_S` gets the previous state, marked as old and unhealthy.
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
FIRST_WAIT_S = 15.0  # for the first state, which takes seconds on a busy machine
# Limits for texts of programs and for lists on the page.
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
    """The current state: `await overview.now()`."""

    def __init__(self) -> None:
        self._shared = Shared("state", self._ask)
        self.close = self._shared.close

    async def now(self) -> dict[str, Any]:
        """Return the state, JSON-serializable. Raises `Unavailable` if there is none within `FIRST_WAIT_S`."""
        done = await self._shared.renew(WAIT_S if self._shared.newest else FIRST_WAIT_S)
        if self._shared.newest is None:
            raise Unavailable(f"the state is being collected; not ready within {FIRST_WAIT_S:.0f} s")
        asked_s, found = self._shared.newest
        age_s = time.monotonic() - asked_s
        if not done:  # must not look like the current state
            late = f"the state shown is {age_s:.0f} s old: broker, database or a program does not answer"
            found = {**found, "ok": False, "problems": [late, *found["problems"]]}
        return {**found, "age_s": round(age_s, 1)}

    def _ask(self) -> dict[str, Any]:
        """Collect the state. Runs in the thread."""
        try:
            return plain(collect.collect())
        except Exception as error:  # a program's malformed answer must not hide all others
            text = f"the state cannot be collected: {type(error).__name__}: {str(error)[:LONGEST]}"
            _, last = self._shared.newest or (0.0, _NOTHING)
            return {**last, "ok": False, "problems": [text]}


def plain(found: collect.State) -> dict[str, Any]:
    """Return the state with times as seconds since 1970, `complete` in words, and texts and numbers safe for
    browsers."""
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
    """Return a truncated copy of what programs reported."""
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

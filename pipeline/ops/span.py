"""The options `--from` and `--to` of commands about stored data."""

from __future__ import annotations

from datetime import datetime

from pipeline.core.errors import WrongUse
from pipeline.core.moments import EARLIEST, LATEST, moment_us
from pipeline.core.products import short
from pipeline.core.runtime import now_us
from pipeline.core.times import from_us


def span_of(from_: str | None, to: str | None) -> tuple[datetime, datetime]:
    """Return `[from, to)` as typed; what is not given is open. Raises `WrongUse` if nothing lies between them."""
    now = now_us()
    first = EARLIEST if from_ is None else from_us(moment_us(from_, now, "--from"))
    last = LATEST if to is None else from_us(moment_us(to, now, "--to"))
    if first >= last:
        raise WrongUse(
            f"--from {short(from_ or '1970')} is not before --to {short(to or '2200')}; give an earlier --from."
        )
    return first, last

"""The state of an hour of quotes: what a message claims, and what is proven independently."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from consumers.instruments import Key
from pipeline.database.hour_order import late_enough, same_content
from pipeline.database.ledger import Hour
from schemas.columns import QuoteHour
from schemas.records import HourHeader
from venues.market_hours import closed_by_week, session_of

Name = tuple[str, str, int]  # venue, product, hour in µs


@dataclass(frozen=True)
class Candidate:
    """An hour as claimed by a message, after checking its rows."""

    key: Key
    hour: Hour
    columns: QuoteHour  # good rows only
    seq: npt.NDArray[np.int64]
    refused: int  # rows that became dead letters

    @property
    def ranked(self) -> Hour:
        """The hour as it is compared within a batch. With refused rows it counts as `partial`, so that its claim does
        not win over a version without refused rows."""
        return replace(self.hour, state="partial") if self.refused and self.hour.state == "present" else self.hour


@dataclass(frozen=True)
class Known:
    """The ledger's record of an hour. Times are by the database's clock.

    `age_s`: how long it has had `hour`. `looked_s`: seconds between the loader's first and last look that found nothing
    and was late enough to prove it; infinite if one look is enough, None if there was none. `strange`: the hour's
    candle counts other quotes than `hour`, although the venue has nothing but hours.
    """

    hour: Hour | None
    age_s: float
    looked_s: float | None
    strange: bool = False


NOTHING_KNOWN = Known(None, 0.0, None)


def state_of(header: HourHeader) -> str:
    """Return the ledger state that a message claims."""
    if header.status in ("ticks", "partial"):
        return "present" if header.status == "ticks" else "partial"
    if header.feed == "calendar":
        return "closed"
    return "confirmed_empty" if header.final else "seen_empty"


def earned(new: Candidate, known: Known, asset_class: str, confirm_s: float) -> Hour:
    """Return the hour with the state it has earned: nothing is final on a message's claim alone.

    `confirmed_empty` needs two looks by the loader, `confirm_s` apart and late enough; a file of zero length in a
    folder needs one. `closed` follows the weekly market hours; holidays are requested like other hours. An hour with
    refused rows stays `partial` and is requested again, until a second answer is the same.
    """
    hour, old = new.hour, known.hour
    if hour.state in ("partial", "seen_empty") or (hour.state == "present" and not new.refused):
        return hour
    if hour.state == "closed" and closed_by_week(session_of(asset_class, new.key.product_id), hour.hour_us):
        return hour
    if old is not None and old.state == hour.state and same_content(hour, old):
        return hour
    if hour.state == "present":
        told_before = (
            old is not None
            and (old.state, old.ticks, old.checksum) == ("partial", hour.ticks, hour.checksum)
            and known.age_s >= confirm_s
            and hour.fetched_at_us - old.fetched_at_us >= confirm_s * 1_000_000
        )
        return hour if told_before else replace(hour, state="partial")
    looked_s = -1.0 if known.looked_s is None else known.looked_s
    late = looked_s == inf or late_enough(hour.hour_us, hour.fetched_at_us)
    final = hour.state == "confirmed_empty" and looked_s >= confirm_s and late
    return hour if final else replace(hour, state="seen_empty")

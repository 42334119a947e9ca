"""What an hour of quotes is believed to be: what a message claims, and what of it nobody has to take its word for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from consumers.instruments import Key
from pipeline.core.times import HOUR_US
from pipeline.database.hour_order import same_content
from pipeline.database.ledger import Hour
from schemas.columns import QuoteHour
from schemas.records import HourHeader
from venues.market_hours import EMPTY_FINAL_AFTER_US, closed_by_week, session_of

Name = tuple[str, str, int]  # venue, product, hour in µs


@dataclass(frozen=True)
class Candidate:
    """An hour as a message tells it, after its rows were checked."""

    key: Key
    hour: Hour
    columns: QuoteHour  # good rows only
    seq: npt.NDArray[np.int64]
    refused: int  # rows that got a letter


@dataclass(frozen=True)
class Known:
    """What the ledger has of an hour, by the database's clock.

    `age_s`: since when it has `hour`. `looked_s`: between the first and the last look of whoever asked the vendor and
    found nothing, infinite where one look is enough; None where nobody looked.
    """

    hour: Hour | None
    age_s: float
    looked_s: float | None


NOTHING_KNOWN = Known(None, 0.0, None)


def state_of(header: HourHeader) -> str:
    """The ledger's state that a message claims by its status."""
    if header.status in ("ticks", "partial"):
        return "present" if header.status == "ticks" else "partial"
    if header.feed == "calendar":
        return "closed"
    return "confirmed_empty" if header.final else "seen_empty"


def earned(new: Candidate, known: Known, asset_class: str, confirm_s: float) -> Hour:
    """The hour with the state that it is given: nothing is final by a message's word.

    Empty is what the loader has looked at twice, some time apart, and late enough; a file of zero length in a folder
    once. Closed is what the week's rule says; a holiday is asked for like other hours. An hour of which rows were
    refused stays `partial`, and is asked for again, until it is told a second time.
    """
    hour, old = new.hour, known.hour
    if hour.state in ("partial", "seen_empty") or (hour.state == "present" and not new.refused):
        return hour
    if hour.state == "closed" and closed_by_week(session_of(asset_class), hour.hour_us):
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
    late_enough = looked_s == inf or hour.hour_us + HOUR_US + EMPTY_FINAL_AFTER_US <= hour.fetched_at_us
    final = hour.state == "confirmed_empty" and looked_s >= confirm_s and late_enough
    return hour if final else replace(hour, state="seen_empty")

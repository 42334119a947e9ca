"""When a market is closed by the week's own rule, so that nobody need be asked for its hours.

Only what is certain: an hour at the edge of the week is asked, because quotes do appear there (GBPJPY has one on
Sunday, 2012-12-23, at 16:00 New York, an hour before the opening). What is open too long costs a call; what is closed
too long would lose quotes in silence. Both who fetches hours and who stores what is said of them go by this.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from pipeline.core.times import HOUR_US

Session = Literal["always", "fx_week", "us_stock"]
NEW_YORK = ZoneInfo("America/New_York")
# A vendor publishes an hour late: an empty answer about a younger one says nothing.
EMPTY_FINAL_AFTER_US = 24 * HOUR_US
_FRIDAY, _SUNDAY = 4, 6


def session_of(asset_class: str) -> Session:
    """The session of an asset class where nobody says otherwise."""
    return {"crypto": "always", "stock": "us_stock"}.get(asset_class, "fx_week")  # type: ignore[return-value]


def closed_by_week(session: Session, hour_us: int) -> bool:
    """Whether the whole hour lies safely inside the time of the week in which nothing is traded."""
    if session == "always":
        return False
    there = datetime.fromtimestamp(hour_us // 1_000_000, UTC).astimezone(NEW_YORK)
    hour_of_week = there.weekday() * 24 + there.hour
    # The week ends on Friday and begins on Sunday at 17:00 in New York; one hour of distance on both sides.
    if _FRIDAY * 24 + 18 <= hour_of_week < _SUNDAY * 24 + 16:
        return True
    # Shares of the United States: 9:30 to 16:00, and what comes before and after it by two hours.
    return session == "us_stock" and (there.weekday() == _SUNDAY or not 7 <= there.hour < 18)

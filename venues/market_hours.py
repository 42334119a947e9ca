"""Weekly market hours: hours in which a market is certainly closed need not be requested.

Hours at the edge of the week are requested, because quotes do appear there (GBPJPY has one on Sunday, 2012-12-23, at
16:00 New York time, an hour before the opening). An hour wrongly called open costs a request; one wrongly called closed
would silently lose quotes. Used both by the loader of hours and by the writer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

Session = Literal["always", "fx_week", "us_stock"]
NEW_YORK = ZoneInfo("America/New_York")
_FRIDAY, _SUNDAY = 4, 6


def session_of(asset_class: str, name: str = "") -> Session:
    """Return the default session of an instrument: the widest that is certain.

    Only US shares are known to keep New York's hours. Their product ids end in US-USD (AAPL.US-USD, AAPLUS-USD); a
    German share's is SAP.DE-EUR.
    """
    if asset_class == "stock" and name.endswith("US-USD"):
        return "us_stock"
    return "always" if asset_class == "crypto" else "fx_week"


def closed_by_week(session: Session, hour_us: int) -> bool:
    """Return whether the whole hour lies, with a margin, in the part of the week in which nothing is traded."""
    if session == "always":
        return False
    there = datetime.fromtimestamp(hour_us // 1_000_000, UTC).astimezone(NEW_YORK)
    hour_of_week = there.weekday() * 24 + there.hour
    # The week ends on Friday and begins on Sunday at 17:00 New York time; one hour of margin on both sides.
    if _FRIDAY * 24 + 18 <= hour_of_week < _SUNDAY * 24 + 16:
        return True
    # US stocks trade from 9:30 to 16:00; two hours of margin on both sides.
    return session == "us_stock" and (there.weekday() == _SUNDAY or not 7 <= there.hour < 18)

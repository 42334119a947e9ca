"""How completeness is put into words: one way for status, verify, the demo's report and the page.

A claim never says more than the ledger: 100 % only where nothing is missing, with the word for what is explained by
anything but the venue's own emptiness, and not at all of a live product that nobody could ask the venue about.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

# The venue itself has nothing there. Everything else that explains is said aloud.
EMPTY_AT_VENUE = frozenset({"venue_has_none", "closed", "confirmed_empty"})


def complete_text(
    kind: str, share: float | None, explained_by: Mapping[str, int] | None, live: bool | None, until: datetime | None
) -> str:
    """`100 %`, `99.9999 %`, `100 %, 490 too old`, `not known since 12:03`, `sampled`."""
    if kind == "tickers":
        return "sampled"
    if share is None:
        return not_known(until) if live else "-"
    text = "100 %" if share >= 1 else f"{int(share * 1_000_000) / 10_000:.4f} %"
    return ", ".join([text, *others_text(explained_by)])


def others_text(explained_by: Mapping[str, int] | None) -> list[str]:
    """Explanations that are not the venue's own emptiness: `490 too old`."""
    return [
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in sorted((explained_by or {}).items())
        if reason not in EMPTY_AT_VENUE
    ]


def not_known(until: datetime | None) -> str:
    """Of a live product that the venue could not be asked about."""
    return f"not known since {until:%H:%M:%S}" if until else "not known yet"

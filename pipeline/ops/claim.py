"""How completeness is put into words: one way for status, verify, the demo's report and the page.

A claim never says more than the ledger: 100 % only where nothing is missing, with the word for what is explained by
anything but the venue's own emptiness, not at all of a live product that nobody could ask the venue about, and never
of what is sampled or has no proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from venues.adapter import Proof

# The venue itself has nothing there. Everything else that explains is said aloud.
EMPTY_AT_VENUE = frozenset({"venue_has_none", "closed", "confirmed_empty"})
NOT_PROVEN = "not proven"  # no program here knows the venue
# In what each kind of proof counts what is missing; nothing is ever missing of the kinds that are not here.
UNITS = {Proof.IDS: "trades", Proof.SEQUENCE: "seconds", Proof.WINDOWS: "seconds", Proof.HOURS: "hours"}
# What is said beside the share, where it rests on less than the number of each trade or hour.
_SHOWN_BY = {Proof.SEQUENCE: " by sequence", Proof.WINDOWS: " by time windows"}


def complete_text(
    proof: str | None,
    share: float | None,
    explained_by: Mapping[str, int] | None,
    live: bool | None,
    until: datetime | None,
    missed: timedelta | None = None,
) -> str:
    """`100 %`, `99.9999 %`, `100 % by time windows`, `100 %, 490 too old`, `not known since 12:03:04`,
    `sampled, 12 min missed`, `not proven`."""
    if proof not in UNITS:
        return sampled_text(missed) if proof == Proof.SAMPLED else NOT_PROVEN
    if share is None:
        return not_known(until) if live else "-"
    text = "100 %" if share >= 1 else f"{int(share * 1_000_000) / 10_000:.4f} %"
    return ", ".join([text + shown_by(proof), *others_text(explained_by)])


def provable(proof: str | None) -> bool:
    """Whether it can be complete at all."""
    return proof in UNITS


def shown_by(proof: str | None) -> str:
    """` by time windows`; nothing where each trade or hour is counted."""
    return "" if proof is None else _SHOWN_BY.get(Proof(proof), "")


def sampled_text(missed: timedelta | None) -> str:
    """`sampled, 12 min missed`: while nobody listened."""
    if not missed:
        return "sampled"
    seconds = missed.total_seconds()
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 0)) if seconds >= 2 * size)
    return f"sampled, {seconds / (size or 1):.0f} {unit} missed"


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

"""Completeness in words, for status, verify, the demonstration's report and the page.

A claim never says more than the ledger: 100 % only if nothing is missing, naming what is explained by anything but the
venue's own emptiness; no share for a live product whose newest trade could not be confirmed, nor for data that are
sampled or cannot be proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from venues.adapter import Proof

# The venue itself has nothing there. All other explanations are named.
EMPTY_AT_VENUE = frozenset({"venue_has_none", "closed", "confirmed_empty"})
NOT_PROVEN = "not proven"  # no program here knows the venue
# The unit in which each kind of proof counts missing data; kinds not listed have no missing data.
UNITS = {Proof.IDS: "trades", Proof.SEQUENCE: "seconds", Proof.WINDOWS: "seconds", Proof.HOURS: "hours"}
# Added to the share if it rests on less than every single trade or hour.
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
    """Whether this kind of proof allows completeness at all."""
    return proof in UNITS


def shown_by(proof: str | None) -> str:
    """Return ` by time windows` and the like; empty if every trade or hour is counted."""
    return "" if proof is None else _SHOWN_BY.get(Proof(proof), "")


def sampled_text(missed: timedelta | None) -> str:
    """`sampled, 12 min missed`: the time without a connection."""
    if not missed:
        return "sampled"
    seconds = missed.total_seconds()
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 0)) if seconds >= 2 * size)
    return f"sampled, {seconds / (size or 1):.0f} {unit} missed"


def others_text(explained_by: Mapping[str, int] | None) -> list[str]:
    """Return explanations other than the venue's own emptiness: `490 too old`."""
    return [
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in sorted((explained_by or {}).items())
        if reason not in EMPTY_AT_VENUE
    ]


def not_known(until: datetime | None) -> str:
    """The text for a live product whose newest trade cannot be confirmed."""
    return f"not known since {until:%H:%M:%S}" if until else "not known yet"

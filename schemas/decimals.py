"""Decimals in messages: which texts can be stored, and how."""

from __future__ import annotations

import re
from decimal import Decimal

PLAIN_DECIMAL = re.compile(r"(\d{1,16})(?:\.(\d{1,18}))?", re.ASCII)
"""A decimal that can be stored as written."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d{1,4})?|NaN|Infinity)", re.ASCII)  # Decimal itself takes more
_TOO_LONG = "more than 16 digits before or 18 after the point"
_LONGEST = 60  # characters; longer texts have more digits than can be stored and are not parsed
_SMALLEST = -18 - _LONGEST  # smallest exponent that is written out


def plain_digits(text: str) -> str:
    """Return a decimal as it is stored: digits and at most one point. Raises `ValueError` that says what is wrong."""
    if PLAIN_DECIMAL.fullmatch(text):
        return text
    plain = _plain(text)
    if plain is None or not PLAIN_DECIMAL.fullmatch(plain):
        raise ValueError(_problem(text))
    return plain


def _plain(text: str) -> str | None:
    """Convert another notation (`1E-7`) to plain digits; None if it cannot be stored."""
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    if not value.is_finite() or value < 0 or (value and not _SMALLEST <= value.adjusted() <= _LONGEST):
        return None  # not 10,000 zeros of 1e9999
    return format(value, "f") if value else "0"


def _problem(text: str) -> str:
    """Return the error of a text that cannot be stored."""
    if len(text) > _LONGEST:
        return f"{len(text):,} characters"
    if not _NUMBER.fullmatch(text):
        return "not a number"
    value = Decimal(text)
    if not value.is_finite():
        return "not finite"
    return "negative" if value < 0 else _TOO_LONG

"""Decimals as the database computes them: exact, with PostgreSQL's rule for rounding quotients."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

# Products have up to 68 digits, and sums some more; Python's own context would round them to 28.
EXACT = Context(prec=200, rounding=ROUND_HALF_UP)


def quotient(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Return `numerator / denominator` as PostgreSQL's numeric does, for numbers that are not negative.

    PostgreSQL computes in groups of four digits; it keeps at least 16 significant digits and as many decimals as either
    number has (`select_div_scale` in numeric.c).
    """
    weight, first = _greatest_group(numerator)
    other_weight, other_first = _greatest_group(denominator)
    weight -= other_weight + (first <= other_first)
    scale = max(16 - 4 * weight, _scale(numerator), _scale(denominator))
    return EXACT.divide(numerator, denominator).quantize(Decimal(1).scaleb(-scale), context=EXACT)


def _scale(value: Decimal) -> int:
    return max(-int(value.as_tuple().exponent), 0)


def _greatest_group(value: Decimal) -> tuple[int, int]:
    """Return the power of 10,000 of a number's first nonzero group of four digits, and that group."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(value.scaleb(-4 * weight, context=EXACT))

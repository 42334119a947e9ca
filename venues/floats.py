"""Remove binary floating-point noise from decimals; all other numbers are kept as written.

An exchange that adds volumes as floats writes 0.0007600000000000001 for 0.00076, or 1.0860400000000001 for a price. A
decimal of up to 15 digits survives a float unchanged, so only longer ones are examined.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

from pipeline.core.errors import BadData
from venues.events import decimal_text

FAITHFUL_DIGITS = 15  # significant digits that survive a double unchanged
DECIMALS = 18  # decimal places that the tables hold
WHOLE_DIGITS = 16
LONGEST = 120  # characters of a plausible number
# Relative. One rounding is 1.1e-16 of the value; the sum of ten thousand trades stays below this.
NOISE = Decimal("1e-12")
_ONE_FLOAT = Decimal("4.5e-16")  # two roundings plus the digits cut off in the text
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_FIFTEEN = Context(prec=FAITHFUL_DIGITS, rounding=ROUND_HALF_EVEN)


def without_noise(value: object, unit: Decimal | None = None) -> str:
    """Return a number's decimal text, as written or with float noise removed. Raises `BadData("decimal")`.

    `unit` is the market's step size, where known: a long number within noise of a multiple of it becomes that multiple.
    Step sizes change over the years, so a number between two steps is not an error; it is kept as written, rounded to
    18 decimal places at most.
    """
    text = decimal_text(repr(value) if isinstance(value, float) else value)
    if len(text) > LONGEST:
        raise BadData("decimal", f"{text[:40]}... has {len(text)} characters")
    number = Decimal(text)
    if number.adjusted() >= WHOLE_DIGITS:
        raise BadData("decimal", f"{text[:40]} has more than {WHOLE_DIGITS} digits before the point")
    decimals = max(0, -int(number.as_tuple().exponent))
    digits = len(str(int(number.scaleb(decimals, _CONTEXT))).strip("-").rstrip("0")) if decimals < 60 else 99
    near = _nearest(number, unit) if digits > FAITHFUL_DIGITS - 3 else None
    if near is None and digits <= FAITHFUL_DIGITS and decimals <= DECIMALS:
        return text
    if near is None or -int(near.as_tuple().exponent) > DECIMALS:
        near = number if decimals <= DECIMALS else number.quantize(Decimal(1).scaleb(-DECIMALS), context=_CONTEXT)
    if near.adjusted() >= WHOLE_DIGITS:
        raise BadData("decimal", f"{text} has more than {WHOLE_DIGITS} digits before the point")
    return format(near, "f")


def _nearest(number: Decimal, unit: Decimal | None) -> Decimal | None:
    """Return the number that was meant, if `number` differs from it by no more than float noise."""
    if unit is not None and unit > 0:
        multiple = _CONTEXT.multiply((_CONTEXT.divide(number, unit)).to_integral_value(context=_CONTEXT), unit)
        off = abs(_CONTEXT.subtract(number, multiple))
        if off < unit / 2 and off <= abs(number) * NOISE:
            return multiple
    short = _FIFTEEN.plus(number).normalize(_FIFTEEN)
    if (
        short != number
        and len(short.as_tuple().digits) <= FAITHFUL_DIGITS - 3
        and abs(number - short) <= abs(number) * _ONE_FLOAT
    ):
        return short
    return None

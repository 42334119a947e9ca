"""Decimals as integers of 128 bits: a wrong carry or sign makes a hash that nobody else computes."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa

from pipeline.archive.rows import decimals
from pipeline.archive.wide import BLOCK, narrow, products, scaled_integers

EDGES = [0, 1, -1, 2**32 - 1, 2**32, -(2**32), 2**62, -(2**62), 2**63 - 1, -(2**63) + 1]


def whole(halves: np.ndarray) -> list[int]:
    return [int.from_bytes(one.tobytes(), "little", signed=True) for one in halves]


def test_products_are_those_of_python() -> None:
    values = np.r_[np.array(EDGES), np.random.default_rng(1).integers(-(2**63) + 1, 2**63 - 1, BLOCK)]
    for factor in (1, 10, 10**13, 10**18):
        assert whole(products(values, factor)) == [int(value) * factor for value in values]
        assert whole(products(values // 10**10, factor)) == [int(value) // 10**10 * factor for value in values]
    assert len(products(values[:0], 10)) == 0


def test_an_integer_part_and_its_fraction_make_one_value() -> None:
    parts = np.array([0, 5, 10**16 - 1, -5, -(10**16) + 1, 0])
    fractions = np.array([1, 10**18 - 1, 10**18 - 1, -1, -(10**18) + 1, -7])
    made = decimals(parts, fractions, pa.decimal128(38, 18))
    assert [value.as_py() for value in made] == [
        Decimal(f"{int(part) * 10**18 + int(fraction)}e-18") for part, fraction in zip(parts, fractions, strict=True)
    ]


def test_scaled_integers_are_those_of_the_slice_and_none_of_what_may_be_wider() -> None:
    made = pa.array([Decimal("-1.25"), Decimal("3.5"), Decimal("1.1")], pa.decimal128(18, 2))
    found = scaled_integers(made[1:])
    assert found is not None
    assert found.tolist() == [350, 110]
    assert scaled_integers(made.cast(pa.decimal128(38, 18))) is None
    assert scaled_integers(pa.array([1])) is None


def test_narrow_decimals_hold_the_same_values() -> None:
    for values, type_ in (
        (np.array([-999_999_999, 0, 999_999_999]), pa.decimal128(9, 5)),
        (np.array([-(10**18) + 1, 7, 10**18 - 1]), pa.decimal128(18, 8)),
    ):
        made = narrow(values, type_)
        assert made.cast(type_).equals(decimals(values, None, type_))
        found = scaled_integers(made[1:])
        assert found is not None
        assert found.tolist() == values[1:].tolist()

"""Rows of exchanges: a bad value, shape or time costs its row and no other; noise of floats is rounded."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import BadData
from producers.exchange_candles.intervals import common
from producers.exchange_candles.rows import Units, floor_us, read_rows
from tests.scripted_exchange import MIN, Found, Scripted, first_from
from venues.floats import without_noise


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), "", "abc", "-1", [1], {"a": 1}, "1e99", True, 10**30]
)
@pytest.mark.parametrize("column", [0, 4, 5])
def test_a_bad_value_costs_its_row(scripted: Scripted, tmp_path: Path, value: object, column: int) -> None:
    """Prevents one NaN from costing a page, and a row without a close from becoming an empty minute."""
    struck = scripted.rows[700]
    bucket = struck[0] * 1000
    scripted.rows[700] = [*struck[:column], value, *struck[column + 1 :]]
    if column == 0:
        scripted.script = lambda rows, start, limit: [row for n, row in enumerate(rows) if n == 700 or row[0] >= start][
            :limit
        ]
    found = Found(scripted, tmp_path)
    walk = found.walk()
    scripted.rows[700] = struck
    assert found.letters
    assert [*walk.refused_rows(), *found.book.aside.named()]
    assert bucket not in found.final
    assert not common(found.spans, [(bucket, bucket + MIN)])
    assert found.lies() == []
    if column:
        assert len(found.truth()) - len(found.final) == 1
        assert {one.bucket_us for one in found.letters} == {bucket}


@pytest.mark.parametrize("odd", [None, [], {}, "row", [1, 2], 7, [None] * 12, ["1", "2", "3", "4", "5", "6"]], ids=repr)
def test_a_row_of_another_shape_costs_itself(scripted: Scripted, tmp_path: Path, odd: object) -> None:
    """Prevents one odd element from refusing a page; beside it nothing is proven to be empty."""
    scripted.script = lambda rows, start, limit: [odd, *first_from(rows, start, limit)]
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert {b: values[4] for b, values in found.final.items()} == found.truth()
    assert found.letters
    assert walk.refused_rows()


@pytest.mark.parametrize("off_ms", [1, 30_000, 59_999])
def test_buckets_beside_the_grid_are_refused(scripted: Scripted, tmp_path: Path, off_ms: int) -> None:
    """Prevents a minute that begins at half past from standing between two others."""
    for row in scripted.rows[600:640]:
        row[0] += off_ms
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert {one.reason for one in found.letters} == {"bucket"}
    assert len(found.letters) >= 40
    assert [text.split(": ", 1)[1] for text in found.book.aside.named()] == [
        f"refused rows, starts {off_ms / 1000:g} s after a multiple of the candle's width"
    ]
    assert walk.refused_rows() == []  # named already
    assert sum(b - a for a, b in found.spans) == found.span[1] - found.span[0] - 40 * MIN
    assert all(bucket % MIN == 0 for bucket in found.final)


def test_a_row_that_comes_right_is_final_after_two_more_looks(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents a glitch of one answer from needing somebody's help."""

    def glitch(rows: list[list[Any]], start: int, limit: int) -> Any:
        found = [row.copy() for row in first_from(rows, start, limit)]
        if scripted.calls == 1:
            found[500][5] = None
        return found

    scripted.script = glitch
    found = Found(scripted, tmp_path)
    walk = found.walk()
    assert found.spans == [found.span]
    assert walk.refused_rows() == []


def test_two_different_candles_of_one_minute_are_none(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents the order of two rows from deciding what is true."""
    again = [*scripted.rows[700][:5], "99", *scripted.rows[700][6:]]
    scripted.script = lambda rows, start, limit: [*first_from(rows, start, limit), again]
    found = Found(scripted, tmp_path)
    found.walk()
    assert again[0] * 1000 not in found.final
    assert {one.reason for one in found.letters} == {"twice"}


def test_volumes_with_the_noise_of_a_float_are_rounded(scripted: Scripted, tmp_path: Path) -> None:
    """Prevents 0.0007600000000000001 from being refused, as a number and as a text."""
    for n, row in enumerate(scripted.rows):
        row[5] = 0.0007600000000000001 if n % 2 else "0.0007600000000000001"
    found = Found(scripted, tmp_path)
    found.walk()
    assert {Decimal(values[4]) for values in found.final.values()} == {Decimal("0.00076")}
    assert found.spans == [found.span]


@pytest.mark.parametrize(
    ("text", "unit", "made"),
    [
        ("0.0007600000000000001", None, "0.00076"),
        ("0.0007600000000000001", "1e-8", "0.00076"),
        ("1.0860400000000001", "1e-5", "1.08604"),
        ("12345.678900000001", "1e-8", "12345.6789"),
        ("1234.56999999999", "0.01", "1234.57"),
        ("64000.123", "0.01", "64000.123"),
        ("0.123456789012345678", "1e-8", "0.123456789012345678"),
        ("0.1234567890123456789", None, "0.123456789012345679"),
        ("1e-30", None, "0"),
        ("1E+3", None, "1000"),
        ("0.30000000000000004", None, "0.3"),
        ("-1.50", None, "-1.5"),
        ("0", None, "0"),
    ],
)
def test_noise_is_taken_out_and_digits_are_kept(text: str, unit: str | None, made: str) -> None:
    """Prevents a price of an older, finer step from being rounded to today's."""
    assert Decimal(without_noise(text, unit and Decimal(unit))) == Decimal(made)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["nan", "1e999", "", " 1", "1_000", None, True, [], "9" * 17, "0." + "1" * 200, "٣"])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(BadData):
        without_noise(value)


def test_weeks_begin_on_mondays() -> None:
    monday = 1_764_547_200_000_000  # 2025-12-01
    assert floor_us(monday + 3 * 86_400_000_000, 604_800_000_000) == monday
    rows = read_rows([([monday // 1000, "1", "1", "1", "1", "1"], None)], 604_800_000_000, Units())
    assert (len(rows.good), rows.refused) == (1, [])

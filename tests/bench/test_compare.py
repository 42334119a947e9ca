"""Comparing two versions: what is called better, and what a person types."""

from __future__ import annotations

from click.testing import CliRunner

from bench.compare import main, table


def test_medians_ratio_and_direction() -> None:
    """Prevents a slower version from being called better: of milliseconds less is better, of rates more."""
    old = [{"p99_ms": ms, "writer_rows_per_s": rate, "minutes": 1.0} for ms, rate in ((10, 50), (30, 100), (20, 90))]
    new = [{"p99_ms": ms, "writer_rows_per_s": rate, "minutes": 1.0} for ms, rate in ((10, 45), (10, 45), (9, 46))]
    first, second = table("live", old, new)
    assert first.split()[:5] == ["live.p99_ms", "20.00", "10.00", "0.50", "better"]
    assert second.split()[:5] == ["live.writer_rows_per_s", "90.00", "45.00", "0.50", "worse"]


def test_figures_that_one_version_lacks_are_left_out() -> None:
    assert list(table("live", [{"a": 1.0}], [{"a": 1.0, "b": 2.0}])) == [
        next(table("live", [{"a": 1.0}], [{"a": 1.0}]))
    ]


def test_a_revision_that_there_is_not() -> None:
    """Prevents a trace of git's in place of one sentence."""
    result = CliRunner().invoke(main, ["no-such-revision", "plain"])
    assert result.exit_code == 2
    assert "is not a revision of this repository" in result.output

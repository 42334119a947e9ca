"""The chart of the benchmarks: that it shows the figures which there are, all of them legible."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart
from pipeline.core.settings import PROJECT

DRAWN = ("history", "plain", "live")
RECORD = json.loads((PROJECT / "docs" / "benchmarks.json").read_text())
FIGURES = {part: RECORD[part] for part in DRAWN}  # a record of all parts has more


def given_by(part: str) -> set[str]:
    """The keys of the figures that `measure` of one part of the benchmark returns."""
    module = ast.parse((PROJECT / "bench" / f"{part}.py").read_text())
    (measure,) = [one for one in module.body if isinstance(one, ast.FunctionDef) and one.name == "measure"]
    (returned,) = [one.value for one in ast.walk(measure) if isinstance(one, ast.Return)]
    assert isinstance(returned, ast.Dict)
    return {key.value for key in returned.keys if isinstance(key, ast.Constant)}


def test_it_asks_for_figures_that_the_benchmark_gives() -> None:
    """Prevents: a chart of figures that were renamed in the benchmark."""
    given = {part: dict.fromkeys(given_by(part), 1.0) for part in DRAWN}
    assert len(chart.panels(given)) == 3  # a figure that is not given would be a KeyError


def test_the_chart_of_the_docs_shows_the_record_of_the_docs() -> None:
    """Prevents: new figures beside an old chart."""
    assert (PROJECT / "docs" / "benchmarks.svg").read_text() == chart.draw(chart.panels(FIGURES))


@pytest.mark.parametrize("factor", [0.01, 1, 12])
def test_no_text_lies_on_a_mark_or_outside(factor: float) -> None:
    """Prevents: figures that cannot be read because others were measured."""
    figures = {part: {key: value * factor for key, value in one.items()} for part, one in FIGURES.items()}
    figures["plain"]["writer_rows_per_s"] = FIGURES["plain"]["writer_rows_per_s"]
    root = ElementTree.fromstring(chart.draw(chart.panels(figures)))
    space = {"svg": root.tag[1:].split("}")[0]}
    texts = [one for one in root.iterfind("svg:text", space) if "class" not in one.attrib]
    marks = [
        (float(one.attrib["x"]) + float(one.attrib["width"]), float(one.attrib["y"]) + chart.BAR / 2)
        for one in root.iterfind("svg:rect", space)
        if one.attrib["class"] != "page"
    ]
    marks += [
        (float(one.attrib["x2"]), (float(one.attrib["y1"]) + float(one.attrib["y2"])) / 2)
        for one in root.iterfind("svg:line", space)
        if one.attrib["class"] == "goal"
    ]
    assert len(texts) == 8
    for text in texts:
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        assert all(x > end for end, middle in marks if abs(middle - y) < chart.ROW / 2)
        assert x + 8.5 * len("".join(text.itertext())) <= chart.WIDTH  # 13 px letters are 8 px wide at most, digits too


def test_figures_that_are_missing_are_named(python: str, tmp_path: Path) -> None:
    """Prevents: a traceback, or half a chart, for the record of one part only."""
    file, made = tmp_path / "figures.json", tmp_path / "chart.svg"
    file.write_text(json.dumps({part: one for part, one in FIGURES.items() if part != "live"}))
    done = subprocess.run(
        [python, "-m", "bench.chart", str(file), str(made)], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.returncode == 2
    assert "'live.frames_per_s' is missing" in done.stderr
    assert not made.exists()

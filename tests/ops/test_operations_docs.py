"""docs/operations.md, the alerts and the Grafana dashboard mention only settings, metrics and events that exist."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client import REGISTRY

import consumers.health
import consumers.letter_publisher
import consumers.writer
import pipeline.core.metrics
import producers.dukascopy.metrics
from pipeline.core.programs import PROGRAMS
from pipeline.core.settings import PROJECT, Section, names_of, sections

DOCS = PROJECT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
MODULES = (
    pipeline.core.metrics,
    consumers.letter_publisher,
    consumers.health,
    consumers.writer,
    producers.dukascopy.metrics,
)


def metrics() -> set[str]:
    """Names as they are registered, without those of the Python process."""
    return {
        name
        for module in MODULES
        for value in vars(module).values()
        if (name := getattr(value, "_name", None)) and value in REGISTRY._collector_to_names
    }


@pytest.mark.parametrize("section", sections())
def test_every_setting_is_documented_with_its_default(section: type[Section]) -> None:
    """Prevents settings that only the source knows, and defaults that changed since."""
    rows = {line.split("`")[1]: line for line in OPERATIONS.splitlines() if line.startswith("| `")}
    first: dict[str, str] = {}
    for name, field in names_of(section).items():
        first.setdefault(field, name)
        assert f"`{name}`" in rows.get(first[field], ""), f"{name} is not in docs/operations.md"
    for field, name in first.items():
        default = section.model_fields[field].get_default(call_default_factory=True)
        if isinstance(default, (int, float, str)) and not isinstance(default, bool):
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert f"| `{shown}` |" in rows[name], f"{name} is {shown} by default"


def example() -> dict[str, str]:
    """The settings of .env.example, without the remarks behind them."""
    lines = re.findall(r"^#([A-Z0-9_]+)=(.*?)(?: +#.*)?$", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    return dict(lines)


@pytest.mark.parametrize("section", sections())
def test_the_example_has_every_setting_with_its_default(section: type[Section]) -> None:
    """Prevents a file that says it has all settings and lacks some: those of archive, retention and logs were not in
    it, though README and doctor send whoever looks for a setting there."""
    first: dict[str, str] = {}
    for name, field in names_of(section).items():
        first.setdefault(field, name)
    shown = {field: example()[name] for field, name in first.items()}
    for field, value in shown.items():
        default = section.model_fields[field].get_default(call_default_factory=True)
        if default not in (None, (), {}):
            assert getattr(section(**{field: value}), field) == default, f"{first[field]} is {default} by default"


def test_every_metric_is_documented() -> None:
    """Prevents metrics without a meaning, and rows about metrics that are gone."""
    table = set(re.findall(r"^\| `([a-z_]+)` \|", OPERATIONS.split("## Metrics")[1].split("## Dead")[0], re.MULTILINE))
    assert table == metrics()


@pytest.mark.parametrize("file", ["prometheus-rules.yml", "grafana-dashboard.json"])
def test_alerts_and_dashboard_ask_for_metrics_that_exist(file: str) -> None:
    """Prevents an alert that can never fire."""
    text = (DOCS / file).read_text()
    if file.endswith(".json"):
        panels = json.loads(text)["panels"]
        text = "\n".join(target["expr"] for panel in panels for target in panel["targets"])
    else:
        text = "\n".join(re.findall(r"expr: (.*)", text))
    named = set(re.findall(r"\b[a-z]+(?:_[a-z]+){1,}\b(?!\s*\()", text)) - {"histogram_quantile", "min_over_time"}
    known = {name + suffix for name in metrics() for suffix in ("", "_total", "_bucket")}
    assert named
    assert named <= known, named - known


def test_every_program_has_its_number() -> None:
    """Prevents somebody asking the wrong port."""
    for program in PROGRAMS:
        assert f"| `{program.name}` | {program.offset} |" in OPERATIONS

"""`python -m bench.chart FIGURES.json CHART.svg`: the figures of `scripts/bench --json` as bars, for the docs.

Plain SVG, legible on light and dark pages. Text is placed after bar and goal, so that nothing overlaps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import click

from bench.environment import Figures

WIDTH, LABELS, BARS = 860, 270, 280  # px: all, the column of labels, the longest bar; behind it 310 for text
ROW, BAR, TITLE, GAP, EDGE = 26, 16, 30, 20, 20
STYLE = """
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f1f1e }
  .title { font-weight: 600 } .label { text-anchor: end } .more { fill: #6b6a66 }
  .page { fill: #fcfcfb; stroke: #e1e0d9 } .plain { fill: #b9b7b0 } .ours { fill: #2a78d6 }
  .goal { stroke: #1f1f1e; stroke-width: 2 } .axis { stroke: #c3c2b7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8e7e3 } .more { fill: #a3a19a }
    .page { fill: #1a1a19; stroke: #383835 } .plain { fill: #64635e } .ours { fill: #3987e5 }
    .goal { stroke: #e8e7e3 } .axis { stroke: #4a4945 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One measured value. `goal` is drawn as a mark across the bar and described in `goal_text`."""

    label: str
    value: float
    text: str
    ours: bool = False
    goal: float | None = None
    goal_text: str = ""


@dataclass(frozen=True)
class Panel:
    """Bars of one unit, on one scale that begins at zero."""

    title: str
    bars: tuple[Bar, ...]


def panels(figures: dict[str, Figures]) -> tuple[Panel, ...]:
    """Return the panels with their goals. Raises `KeyError` (`live.p99_ms`) for a missing figure."""

    def of(name: str) -> float:
        part, _, key = name.partition(".")
        try:
            return float(figures[part][key])
        except KeyError:
            raise KeyError(name) from None

    def rate(label: str, name: str, times: float | None = None, other: str = "") -> Bar:
        goal = None if times is None else times * of(other)
        goal_text = "" if goal is None else f"goal {goal:,.0f} ({times:g} times)"
        return Bar(label, of(name), f"{of(name):,.0f}", goal is not None, goal, goal_text)

    def delay(label: str, name: str, goal: float | None = None) -> Bar:
        return Bar(
            label, of(name), f"{of(name):,.0f} ms", True, goal, "" if goal is None else f"goal under {goal:g} ms"
        )

    many, memory = "plain.executemany_rows_per_s", "history.memory_quotes_per_s"
    return (
        Panel(
            "Trades per second into rows, one trade a message",
            (
                rate("one insert and commit each", "plain.single_rows_per_s"),
                rate("executemany of 1,000", many),
                rate("our writer, with candles and ledger", "plain.writer_rows_per_s", 3.3, many),
            ),
        ),
        Panel(
            "Quotes of history per second into rows, with candles and ledger",
            (
                rate("our writer, fed from memory", memory),
                rate("our writer, files through Pulsar", "history.quotes_per_s", 0.9, memory),
            ),
        ),
        Panel(
            f"Live at {of('live.frames_per_s'):,.0f} frames per second: from frame received to row visible",
            (
                delay("half of the frames within", "live.p50_ms", 8),
                delay("99 % within", "live.p99_ms", 20),
                delay("99.9 % within", "live.p999_ms", 40),
            ),
        ),
    )


def draw(shown: Sequence[Panel]) -> str:
    """The whole SVG."""
    height = 2 * EDGE + sum(TITLE + ROW * len(panel.bars) for panel in shown) + GAP * (len(shown) - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-label="Benchmarks">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    top = EDGE
    for panel in shown:
        lines += _panel(panel, top)
        top += TITLE + ROW * len(panel.bars) + GAP
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, top: int) -> Iterator[str]:
    scale = BARS / max(max(bar.value, bar.goal or 0) for bar in panel.bars)
    yield f'<text class="title" x="{EDGE}" y="{top + 14}">{escape(panel.title)}</text>'
    for number, bar in enumerate(panel.bars):
        y = top + TITLE + ROW * number
        middle, length = y + ROW / 2, max(1.0, bar.value * scale)
        behind = max(length, (bar.goal or 0) * scale) + 9
        yield f'<text class="label" x="{LABELS - 10}" y="{middle + 4.5}">{escape(bar.label)}</text>'
        yield (
            f'<rect class="{"ours" if bar.ours else "plain"}" x="{LABELS}" y="{middle - BAR / 2}"'
            f' width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        if bar.goal is not None:
            x = LABELS + bar.goal * scale
            yield f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 11}" y2="{middle + 11}"/>'
        more = f'<tspan class="more" dx="8">{escape(bar.goal_text)}</tspan>' if bar.goal_text else ""
        yield f'<text x="{LABELS + behind:.1f}" y="{middle + 4.5}">{escape(bar.text)}{more}</text>'
    bottom = top + TITLE + ROW * len(panel.bars)
    yield f'<line class="axis" x1="{LABELS}" x2="{LABELS}" y1="{top + TITLE}" y2="{bottom}"/>'


@click.command()
@click.argument("figures", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("chart", type=click.Path(dir_okay=False, path_type=Path))
def main(figures: Path, chart: Path) -> None:
    """Draw CHART (SVG) from FIGURES, what `scripts/bench history plain live --json` printed."""
    try:
        chart.write_text(draw(panels(json.loads(figures.read_text()))))
    except (KeyError, ValueError, TypeError) as error:
        print(
            f"chart: {figures}: {error} is missing; create the file with scripts/bench history plain live --json.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()

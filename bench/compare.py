"""`scripts/bench compare REV [PART ...]`: compare an earlier version with this one, alternating on the same machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.environment import say
from pipeline.core.settings import PROJECT

# Higher is better; of everything else (milliseconds, megabytes, microseconds of processor time) lower is.
_MORE_IS_BETTER = ("_per_s", "ratio")
_SAME = 0.005
# What a measurement was made with, and what only names it.
_GIVEN = ("trades", "quotes", "minutes", "frames_per_s", "rounds")


@contextmanager
def _checkout(revision: str) -> Iterator[Path]:
    """Yield a folder with that version, set up as a user would."""
    known = ["git", "rev-parse", "--verify", "--quiet", revision + "^{commit}"]
    if subprocess.run(known, cwd=PROJECT, stdout=subprocess.DEVNULL).returncode:
        raise click.BadParameter(
            f"{revision!r} is not a revision of this repository; see git log", param_hint="REVISION"
        )
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as folder:
        old = Path(folder) / "old"
        _git("worktree", "add", "--quiet", "--detach", str(old), revision)
        try:
            subprocess.run(["scripts/setup"], cwd=old, check=True, stdout=sys.stderr)
            yield old
        finally:
            _git("worktree", "remove", "--force", str(old))


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"git {arguments[0]}: {done.stderr.strip()}")


def _run(folder: Path, part: str, options: tuple[str, ...]) -> dict[str, float]:
    command = ["scripts/bench", part, "--json", *options]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise click.ClickException(f"scripts/bench {part} ended with {done.returncode} in {folder}")
    figures: dict[str, Any] = json.loads(done.stdout)[part]
    return {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}


def table(part: str, old: list[dict[str, float]], new: list[dict[str, float]]) -> Iterator[str]:
    """Yield a line per figure that both versions have: medians, their ratio, and the spread of the rounds."""
    for name in new[0]:
        if name in _GIVEN or any(name not in one for one in [*old, *new]):
            continue
        before, after = ([one[name] for one in rounds] for rounds in (old, new))
        if not median(before):
            continue
        ratio = median(after) / median(before)
        better = "better" if (ratio > 1) == name.endswith(_MORE_IS_BETTER) else "worse"
        if abs(ratio - 1) < _SAME:
            better = ""
        spread = f"{min(before):,.2f}-{max(before):,.2f} and {min(after):,.2f}-{max(after):,.2f}"
        yield f"{part}.{name:<36}{median(before):>14,.2f}{median(after):>14,.2f}{ratio:>8.2f} {better:<7}{spread}"


@click.command()
@click.argument("revision")
@click.argument("parts", nargs=-1, type=click.Choice(("history", "load", "plain", "live", "drain", "views")))
@click.option("--rounds", default=5, show_default=True, help="Runs of each version; medians are compared.")
@click.option("--seconds", default=60.0, show_default=True, help="Length of `live`.")
def main(revision: str, parts: tuple[str, ...], rounds: int, seconds: float) -> None:
    """Run PARTS (plain, drain and live by default) with REVISION and this checkout, alternating, and compare.

    Columns: median before, median now, their ratio, the spread of both.
    """
    with _checkout(revision) as old:
        for part in parts or ("plain", "drain", "live"):
            options = ("--seconds", str(seconds)) if part == "live" else ()
            found: dict[Path, list[dict[str, float]]] = {old: [], PROJECT: []}
            for number in range(rounds):
                for folder in (old, PROJECT) if number % 2 == 0 else (PROJECT, old):
                    say(f"compare: {part}, round {number + 1} of {rounds}, {'before' if folder == old else 'now'}")
                    found[folder].append(_run(folder, part, options))
            for line in table(part, found[old], found[PROJECT]):
                print(line, flush=True)


if __name__ == "__main__":
    main()

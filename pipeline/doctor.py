"""`python -m pipeline.doctor [--demo]`: check everything the pipeline depends on, with advice."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.text import Text

from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.runtime import program
from pipeline.core.setting_sources import env_file
from pipeline.core.settings import (
    PROJECT,
    DatabaseSettings,
    LimitSettings,
    PulsarSettings,
    load,
    sections,
)
from pipeline.core.text import printable
from pipeline.ops import collect
from pipeline.ops.doctor_database import database
from pipeline.ops.doctor_services import Finding, broker, live_clocks, ok, venues
from pipeline.services import layout, local
from pipeline.services.demo import enter_demo
from pipeline.services.preflight import needed_ports
from pipeline.services.processes import port_is_free


def settings() -> Iterator[Finding]:
    """Check all settings; one finding per wrong value."""
    try:
        for section in sections():
            load(section)
    except WrongUse as error:
        for line in str(error).splitlines():
            yield Finding(
                "settings", "failed", line, "correct it in .env or the environment; .env.example lists all settings"
            )
        return
    yield ok("settings", "every value is valid")


def secrets() -> Iterator[Finding]:
    """Check that files with passwords, tokens and keys are readable by their owner only."""
    pulsar, data = load(PulsarSettings), local.data_folder()
    files = {env_file(): "may contain passwords"}
    keys = (data / "broker" / name for name in ("token.key", "tls.key"))
    for file in (pulsar.token_path, *keys, data / "database" / "passwords"):
        if file is not None:
            files[file] = "opens the broker" if file.parent.name != "database" else "opens the database"
    open_ones = [(file, why) for file, why in files.items() if _others_read(file)]
    for file, why in open_ones:
        yield Finding("secrets", "warning", f"others on this machine can read {file}, which {why}", f"chmod 600 {file}")
    if not open_ones:
        yield ok("secrets", "no file with passwords or tokens can be read by others")


def _others_read(file: Path) -> bool:
    """Whether other users can read the file: its mode allows it, and no parent folder prevents it."""
    try:
        if not file.is_file() or not file.stat().st_mode & 0o044:
            return False
        return all(folder.stat().st_mode & 0o011 for folder in file.resolve().parents)
    except OSError:
        return False


def packages() -> Iterator[Finding]:
    """Check that the installed packages are those of requirements.lock."""
    wanted: dict[str, set[str]] = {}  # a name may have a version per platform or Python
    optional = set()
    for line in (PROJECT / "requirements.lock").read_text().splitlines():
        pin, _, marker = line.partition(";")
        if "==" in pin and not line.startswith(("#", " ")):
            name, _, number = pin.rstrip(" \\").partition("==")
            wanted.setdefault(name.split("[")[0], set()).add(number)
            optional |= {name} if marker else set()
    wrong = []
    for name, numbers in wanted.items():
        try:
            if version(name) not in numbers:
                wrong.append(f"{name} {version(name)} instead of {' or '.join(sorted(numbers))}")
        except PackageNotFoundError:
            if name not in optional:
                wrong.append(f"{name} is missing")
    python = f"Python {sys.version.split()[0]}"
    if wrong:
        yield Finding("packages", "warning", f"{python}; {', '.join(wrong[:4])}", "run scripts/setup")
    else:
        yield ok("packages", f"{python}, {len(wanted)} packages as locked")


def disk() -> Iterator[Finding]:
    """Check free space where data, downloads and state are stored."""
    folder = local.data_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    least = load(LimitSettings).min_free_disk_gb
    text = f"{free:.1f} GB free at {folder}"
    if free < least:
        yield Finding(
            "disk", "failed", text, f"free some space: history pauses below {least:g} GB (LIMITS_MIN_FREE_DISK_GB)"
        )
    elif free < 2 * least:
        yield Finding("disk", "warning", text, f"history pauses below {least:g} GB; see disk use in docs/operations.md")
    else:
        yield ok("disk", text)


def java() -> Iterator[Finding]:
    if not load(PulsarSettings).private:
        yield ok("java", "not needed: PULSAR_URL is set")
        return
    home = layout.java_home()
    if home is None:
        yield Finding("java", "failed", f"no Java >= {layout.JAVA_AT_LEAST}", "run scripts/setup, or set JAVA_HOME")
    else:
        yield ok("java", f"Java {layout.java_version(home)}")


def installed() -> Iterator[Finding]:
    """Check the private services and the page's chart library."""
    if load(PulsarSettings).private and not (layout.PULSAR_HOME / "bin" / "pulsar").exists():
        yield Finding("set-up", "failed", f"Pulsar {layout.PULSAR_VERSION} is not installed", "run scripts/setup")
    elif load(DatabaseSettings).private and not layout.postgres_program("postgres").exists():
        yield Finding("set-up", "failed", "the private PostgreSQL is not installed", "run scripts/setup")
    elif not (layout.INSTALLED / _library()).exists():
        yield Finding("set-up", "warning", "the chart library is missing", "run python -m dashboard.assets")
    else:
        yield ok("set-up", "services and chart library are installed")


def _library() -> str:
    from pipeline.services.charts_library import FOLDER, LIBRARY

    return str(Path(FOLDER.name) / LIBRARY)


def ports() -> Iterator[Finding]:
    """Check that the ports are free, or held by our own supervisord."""
    running = bool(collect.supervised())
    taken = {port: name for port, name in needed_ports().items() if not port_is_free(port)}
    if running:
        yield ok("ports", f"supervisord runs and holds {len(taken)} of {len(needed_ports())} ports")
    elif taken:
        shown = ", ".join(f"{port} ({name})" for port, name in sorted(taken.items()))
        advice = "stop the programs that use them, or set the names in brackets to free ports"
        yield Finding("ports", "warning", f"the pipeline is not running, but these ports are taken: {shown}", advice)
    else:
        yield ok("ports", f"{len(needed_ports())} ports are free; nothing runs yet")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    settings,
    secrets,
    packages,
    disk,
    java,
    installed,
    ports,
    broker,
    database,
    venues,
    live_clocks,
)


def examine() -> Iterator[Finding]:
    """Run all checks; a failing check does not hide the others. With wrong settings nothing else is checked."""
    for check in CHECKS:
        try:
            found = list(check())
        except (PipelineError, OSError, psycopg.Error, ValueError, KeyError) as error:
            found = [Finding(check.__name__, "failed", f"{type(error).__name__}: {error}", "see the text")]
        yield from found
        if check is settings and any(one.verdict == "failed" for one in found):
            return


@click.command()
@click.option("--demo", "of_demo", is_flag=True, help="Check the demonstration.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@program("doctor")
def main(of_demo: bool, as_json: bool) -> int:
    """Check everything the pipeline depends on. The exit code is 1 if a check failed, otherwise 0."""
    if of_demo:
        enter_demo()
    console = Console(highlight=False, soft_wrap=True)
    colours = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    failed = 0
    for one in examine():
        failed += one.verdict == "failed"
        if as_json:
            click.echo(json.dumps(vars(one)))
            continue
        text = printable(one.text, keep_lines=True)
        console.print(Text.assemble((f"{one.verdict:<8}", colours[one.verdict]), f"{one.what:<10}{text}"))
        if one.advice:
            console.print(Text(f"{'':18}{one.advice}", style="dim"))
    return 1 if failed else 0


if __name__ == "__main__":
    main()

"""`python -m pipeline.start [--demo [--once]]`: start the pipeline; called by scripts/start after setup."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from pipeline.core.errors import WrongUse
from pipeline.core.log_file import writer
from pipeline.core.settings import PROJECT, DashboardSettings, check_all, load
from pipeline.ops import demo_report
from pipeline.services import demo, local, preflight
from pipeline.services.conf import supervisord
from pipeline.services.place import check_place

ARRIVE_WITHIN_S = 300.0


@click.command()
@click.option("--demo", "as_demo", is_flag=True, help="Use simulated venues, with separate data and ports.")
@click.option("--once", is_flag=True, help="With --demo: stop after the report; exit code 1 if something is missing.")
def main(as_demo: bool, once: bool) -> None:
    """Run the pipeline in the foreground until Ctrl-C."""
    os.umask(0o077)  # logs and pid files are readable by us only
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        if once and not as_demo:
            raise WrongUse("--once requires --demo.")
        if as_demo:
            demo.enter_demo()
        check_all()
        check_place()
        preflight.pass_gate(None)
        if as_demo:
            sys.exit(_demo(console, once))
        _live(console)
    except WrongUse as error:
        print(f"scripts/start: {error}", file=sys.stderr)
        sys.exit(2)


def _live(console: Console) -> None:
    console.print("Starting the pipeline; Ctrl-C stops it. In another terminal:")
    console.print("  .venv/bin/supervisorctl -c supervisord.conf status   what runs")
    console.print("  scripts/psql -c 'SELECT * FROM completeness'         what is stored")
    console.print(f"  http://127.0.0.1:{load(DashboardSettings).port}                                the dashboard")
    command = supervisord(PROJECT / "supervisord.conf")
    os.chdir(PROJECT)
    _make_stdout_openable()
    os.execv(command[0], command)


def _make_stdout_openable() -> None:
    """Put a pipe before a stdout that is a socket, as systemd's is: supervisord opens it anew for each program, which
    a socket does not allow, so that it could start none of them."""
    if stat.S_ISSOCK(os.fstat(1).st_mode):
        reading, writing = os.pipe()
        subprocess.Popen(["cat"], stdin=reading)  # ends with the last program that writes
        os.dup2(writing, 1)
        os.close(reading)
        os.close(writing)


def _demo(console: Console, once: bool) -> int:
    folder = local.data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    conf = demo.write_conf(folder)
    log_file = folder / "log"
    console.print(f"Starting the demonstration; its log is {_short(log_file)}. Ctrl-C stops it.")
    log = writer(log_file)
    assert log.stdin is not None
    with log.stdin:
        command = ["setpriv", "--pdeathsig", "TERM", *supervisord(conf)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log.stdin, stderr=log.stdin, cwd=PROJECT)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    try:
        missing = _await_data(console, child)
        if child.poll() is None:
            demo_report.show(console, conf)
        if missing:
            console.print(f"[red]Did not arrive: {', '.join(missing)}.[/red] See {_short(log_file)}.")
        if not once and child.poll() is None:
            console.print("The demonstration keeps running; Ctrl-C stops it.")
            child.wait()
            return 0
        return 1 if missing else 0
    except KeyboardInterrupt:
        return int(once)  # 0 would say that everything arrived
    finally:
        _stop(child)


def _await_data(console: Console, child: subprocess.Popen[bytes]) -> list[str]:
    """Wait until all promised data is stored; returns what did not arrive."""
    begun = datetime.now(UTC)
    deadline = time.monotonic() + ARRIVE_WITHIN_S
    state = demo_report.arrived(begun)
    told = 0.0
    with console.status("waiting for data") as status:
        while not all(state.values()) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.5)
            state = demo_report.arrived(begun)
            text = "; ".join(f"{name}: {'here' if here else 'waiting'}" for name, here in state.items())
            status.update(text)
            if not console.is_terminal and time.monotonic() - told > 15:
                told = time.monotonic()
                console.print(text)
    return [name for name, here in state.items() if not here]


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    while True:
        try:
            child.wait()
            return
        except KeyboardInterrupt:
            continue  # it is stopping already


def _short(file: Path) -> str:
    return str(file.relative_to(PROJECT)) if file.is_relative_to(PROJECT) else str(file)


if __name__ == "__main__":
    main()

"""`scripts/judge [--minutes N --seed S --faults N] [--replay FILE]`: look for faults that lose data."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path

import click

from judge import cluster_run, old_days, schedule
from judge.check import Verdict, first_ids, judge
from judge.claims import OLDER_S, Detector
from judge.inject import Striker
from judge.testbed import Stage
from judge.truth import Truth
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop
from simulator.testing import running_simulator
from simulator.venues import listings

SYMBOLS = {
    venue: tuple(one.upper().replace("-", listings()[venue].separator) for one in schedule.products_of(venue))
    for venue in schedule.VENUES
}
RATE = 5.0  # trades a second and product
# Share of the time with faults: these at least double the length of a load, and it must end in time.
LOAD_SHARE = 0.25
START_S = 600.0  # on an idle machine it is up after half a minute


def say(text: str) -> None:
    print(text, flush=True)


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="How long faults are injected.")
@click.option("--seed", type=int, help="Seed of the tape and the faults [random; it is printed].")
@click.option("--faults", type=int, help="Number of faults [eight a minute].")
@click.option("--longest", default=120.0, show_default=True, help="Maximum length of one fault in seconds.")
@click.option("--settle", default=120.0, show_default=True, help="Seconds within which everything must be repaired.")
@click.option(
    "--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Repeat the plan of an earlier run."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write plan and verdict to this file as JSON."
)
@click.option(
    "--without", multiple=True, type=click.Choice(schedule.KINDS), help="Exclude this kind of fault; repeatable."
)
@click.option("--cluster", is_flag=True, help="Test kills in a cluster of two brokers and three bookies instead.")
@click.option("--keep", is_flag=True, help="Keep logs and data if something is wrong.")
def main(
    minutes: float,
    seed: int | None,
    faults: int | None,
    longest: float,
    settle: float,
    replay: Path | None,
    report: Path | None,
    without: tuple[str, ...],
    cluster: bool,
    keep: bool,
) -> None:
    """Run the whole pipeline against the simulator, inject faults, and compare the tables with the tape.

    The exit code is 0 if every promise held, otherwise 1: seed, faults and the first difference are printed, and the
    plan is saved.
    """
    if cluster:
        sys.exit(cluster_run.main())
    planned: list[schedule.Fault] | None = None
    seconds = minutes * 60
    if replay is not None:
        seed, seconds, planned = schedule.from_json(json.loads(replay.read_text()))
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    stop = Stop().listen()
    products = {venue: [{"symbol": s, "rate": RATE} for s in symbols] for venue, symbols in SYMBOLS.items()}
    products[old_days.VENUE].append({"symbol": old_days.SYMBOL, "rate": old_days.RATE})
    began = time.monotonic()
    with running_simulator(seed=seed, products=products, clock_offset_s=-3600.0) as simulator:
        stage = Stage(simulator, seconds * LOAD_SHARE)
        well = False
        detector: Detector | None = None
        try:
            stage.start()
            stage.wait_up(START_S)
            say(f"seed {seed}; up after {time.monotonic() - began:.0f} s; log {stage.log}")
            if not stage.disk.there:
                say("a small disk cannot be mounted here; that fault is skipped")
            first = first_ids(stage)
            if planned is None:
                count = faults if faults is not None else round(8 * minutes)
                planned = schedule.make(seed, seconds, count, disk=stage.disk.there, longest_s=longest, without=without)
            striker = Striker(stage, say)
            truth = Truth(simulator, stage.database_url, first, OLDER_S, stage.old)
            detector = Detector(
                truth,
                stage.database_url,
                stage.dashboard_port,
                stage.metrics_base + BY_NAME["gap-filler"].offset,
                stage.asking_environment(),
                striker.excused,
            )
            detector.start()
            striker.run(planned, seconds, stop)
            last = simulator.now()
            say(
                f"{striker.struck} faults struck ({striker.during_load} while history was loaded), {striker.missed} met"
                " nobody; waiting for the repair of everything"
            )
            verdict = judge(stage, first, last, striker, settle)
            detector.close()
            verdict.differences += detector.verdict()
            well = not verdict.differences
            _print_verdict(verdict, stage, striker, detector, seed, seconds, planned, report)
        finally:
            if detector is not None:
                detector.close()
            stage.close(keep=keep and not well)
    sys.exit(0 if well else 1)


def _print_verdict(
    verdict: Verdict,
    stage: Stage,
    striker: Striker,
    detector: Detector,
    seed: int,
    seconds: float,
    planned: list[schedule.Fault],
    report: Path | None,
) -> None:
    say(
        f"{verdict.trades:,} trades compared with the tape, {verdict.quotes:,} quotes,"
        f" {verdict.samples:,} samples, {verdict.letters} dead letters"
    )
    checked = ", ".join(f"{who} {count:,}" for who, count in sorted(detector.claims.checked.items()))
    say(f"{sum(detector.claims.checked.values()):,} claims checked ({checked}), {detector.claims.told} of them lies")
    say(
        f"{verdict.archived_trades:,} trades and {verdict.archived_quotes:,} quotes read from files alone;"
        f" {stage.old.claims:,} of the claims were about them"
    )
    if verdict.settled_s is not None:
        say(f"everything was there {verdict.settled_s:.0f} s after the last fault")
    if verdict.differences:
        file = report or Path(f"judge-{seed}.json")
        say(f"\nNOT KEPT, seed {seed}; the faults:")
        for fault in planned:
            say(f"  {fault}")
        for difference in verdict.differences[:20]:
            say(f"  {difference}")
        say(f"again with: scripts/judge --replay {file}")
    else:
        say(
            "kept: tables and files = tape, nothing doubled or in both, no file without a row of the ledger,"
            " candles and ledger true, dead letters only what was poisoned, no lie"
        )
    if report or verdict.differences:
        data = schedule.as_json(seed, seconds, planned) | {
            "differences": verdict.differences,
            "trades": verdict.trades,
            "quotes": verdict.quotes,
            "archived_trades": verdict.archived_trades,
            "archived_quotes": verdict.archived_quotes,
            "claims_on_archived_days": stage.old.claims,
            "samples": verdict.samples,
            "settled_s": verdict.settled_s,
            "struck": striker.struck,
            "during_load": striker.during_load,
            **detector.json(),
        }
        (report or Path(f"judge-{seed}.json")).write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()

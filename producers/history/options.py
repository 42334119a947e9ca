"""Command line options shared by the live venues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline.core.errors import WrongUse
from pipeline.core.moments import moment_us
from pipeline.core.products import short
from pipeline.core.runtime import now_us
from pipeline.core.times import DAY_US
from producers.history.request import Request


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--historical` and its options to a command."""
    for option in reversed(
        [
            click.option("--historical", is_flag=True, help="Load history instead of streaming."),
            click.option("--live", is_flag=True, help="Stream, whatever the settings say."),
            click.option("--last-n-days", type=int, help="Load the last N days."),
            click.option(
                "--from", "from_", metavar="TIME", help="Load from here on (UTC): 2026-11-20T12:30, 7_days_ago."
            ),
            click.option("--to", metavar="TIME", help="Load up to this time, not included [now]."),
            click.option("--dry-run", is_flag=True, help="Say how many calls it takes and how long; load nothing."),
            click.option("--no-wait", is_flag=True, help="Skip a product that another process works on."),
            click.option("--no-wait-for-ledger", is_flag=True, help="End when published, not when stored."),
        ]
    ):
        command = option(command)
    return command


def refuse_beside_stream(options: dict[str, Any]) -> None:
    """Raise `WrongUse` for an option of a load without a load: a dry run would stream."""
    given = [f"--{name.strip('_').replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise WrongUse(f"{', '.join(given)}: this is for a load of history; add --historical.")


def request_of(
    products: tuple[str, ...],
    default_days: int,
    *,
    last_n_days: int | None,
    from_: str | None,
    to: str | None,
    dry_run: bool,
    no_wait: bool,
    no_wait_for_ledger: bool,
) -> Request:
    """Build the request from the options. `default_days`: the setting that `--last-n-days` overrides.

    Raises `WrongUse`.
    """
    if last_n_days is not None and (from_ or to):
        other = f"--from {short(from_)}" if from_ else f"--to {short(to or '')}"
        raise WrongUse(
            f"--last-n-days {last_n_days} and {other} do not go together; give either --last-n-days or --from and --to."
        )
    if last_n_days is not None and last_n_days <= 0:
        raise WrongUse(f"--last-n-days must be greater than 0 (it is {last_n_days}).")
    now = now_us()
    to_us = moment_us(to, now, "--to") if to else now
    from_us = moment_us(from_, now, "--from") if from_ else to_us - (last_n_days or default_days) * DAY_US
    if from_us >= to_us:
        begin = f"--from {short(from_)}" if from_ else f"the last {last_n_days or default_days} days"
        raise WrongUse(f"{begin}: nothing lies between that and --to {short(to or 'now')}; give an earlier --from.")
    if from_us >= now:
        raise WrongUse(f"--from {short(from_ or '')} lies in the future; give a moment that has passed.")
    return Request(
        products,
        from_us,
        min(to_us, now),
        dry_run=dry_run,
        wait_for_turn=not no_wait,
        wait_for_ledger=not no_wait_for_ledger,
    )

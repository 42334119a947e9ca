"""Command line options that the live venues share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from pipeline.errors import WrongUse
from pipeline.process import now_us
from pipeline.times import EPOCH
from producers.load import Wish

DAY_US = 86_400_000_000


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--historical` and what belongs to it."""
    for option in reversed(
        [
            click.option("--historical", is_flag=True, help="Load history instead of streaming."),
            click.option("--live", is_flag=True, help="Stream, whatever the settings say."),
            click.option("--last-n-days", type=int, help="Load the last N days."),
            click.option("--from", "from_", metavar="TIME", help="Load from this time (UTC), included."),
            click.option("--to", metavar="TIME", help="Load up to this time (UTC), not included; default now."),
            click.option("--dry-run", is_flag=True, help="Say how many calls it takes and how long; load nothing."),
            click.option("--no-wait", is_flag=True, help="Skip a product that another process works on."),
            click.option("--no-wait-for-ledger", is_flag=True, help="End when published, not when stored."),
        ]
    ):
        command = option(command)
    return command


def moment_us(text: str, name: str) -> int:
    """`2026-11-20` or `2026-11-20T12:00` (UTC unless it says otherwise) -> µs since 1970. Raises `WrongUse`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"{name}: {text!r} is no time; write 2026-11-20 or 2026-11-20T12:00:00.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


def wish_of(
    products: tuple[str, ...], default_days: int, *, last_n_days: int | None, from_: str | None, to: str | None,
    dry_run: bool, no_wait: bool, no_wait_for_ledger: bool,
) -> Wish:  # fmt: skip
    """What the options ask for. Raises `WrongUse`."""
    if last_n_days is not None and (from_ or to):
        raise WrongUse("give either --last-n-days or --from and --to.")
    if last_n_days is not None and last_n_days <= 0:
        raise WrongUse(f"--last-n-days must be greater than 0 (it is {last_n_days}).")
    now = now_us()
    to_us = moment_us(to, "--to") if to else now
    from_us = moment_us(from_, "--from") if from_ else to_us - (last_n_days or default_days) * DAY_US
    if from_us >= to_us:
        raise WrongUse("--from must be earlier than --to.")
    if from_us >= now:
        raise WrongUse("--from lies in the future.")
    return Wish(
        products, from_us, min(to_us, now), dry_run=dry_run, wait_for_turn=not no_wait,
        wait_for_ledger=not no_wait_for_ledger,
    )  # fmt: skip

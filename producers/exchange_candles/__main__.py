"""`python -m producers.exchange_candles`: publish candles of OANDA and of exchanges known to ccxt, with a consensus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.core import events
from pipeline.core.log import configure, get_logger
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import CommonSettings, load
from producers.exchange_candles.command import Request, run
from producers.exchange_candles.prepare import PROGRAM
from producers.exchange_candles.settings import ExchangeCandlesSettings

_LEVELS = {-2: "ERROR", -1: "WARNING", 0: "INFO"}


# `--run_mode` is accepted for `--run-mode`.
@click.command(context_settings={"token_normalize_func": lambda name: name.replace("_", "-")})
@click.option("--exchanges", metavar="LIST", help="Comma list of ccxt's names, and oanda [EXCHANGE_CANDLES_EXCHANGES].")
@click.option("--symbols", metavar="LIST", help="Comma list; otherwise the file, otherwise the table watchlist.")
@click.option("--symbols-file", type=click.Path(path_type=Path), help="One symbol per line; # starts a comment.")
@click.option("--candle-granularity-minutes", type=int, help="1, 5, 60, 1440 ...; must be offered by all exchanges.")
@click.option("--backfill-start-date", metavar="WHEN", help="1_year_ago, N_days_ago, N_hours_ago or an ISO date.")
@click.option("--min-exchanges-required", type=int, help="Quorum of a consensus; 0: all named exchanges.")
@click.option(
    "--run-mode", type=click.Choice(["wet", "dry"]), default="wet", help="dry: only show candles; publish nothing."
)
@click.option("--dry-run-limit", type=int, default=10, help="Candles shown per symbol and exchange in dry mode.")
@click.option("--api-call-delay-seconds", type=float, help="Extra pause before each call, on top of the rate limits.")
@click.option("--follow", is_flag=True, help="Keep running and fetch candles as they close.")
@click.option("--verbosity", type=int, help="1: debug, 0: info, -1: warnings, -2: errors.")
@program(PROGRAM)
def main(
    *,
    exchanges: str | None,
    symbols: str | None,
    symbols_file: Path | None,
    candle_granularity_minutes: int | None,
    backfill_start_date: str | None,
    min_exchanges_required: int | None,
    run_mode: str,
    dry_run_limit: int,
    api_call_delay_seconds: float | None,
    follow: bool,
    verbosity: int | None,
) -> int:
    """Fetch candles of exchanges: back-fill from a date, then catch up; with --follow, forever.

    Options may be written with - or _. Each has a setting EXCHANGE_CANDLES_...; see .env.example.
    """
    if verbosity is not None:
        common = load(CommonSettings)
        level: dict[str, Any] = {"debug": verbosity > 0, "log_level": _LEVELS.get(max(-2, min(0, verbosity)))}
        configure(common.model_copy(update=level), PROGRAM)
    settings = load(
        ExchangeCandlesSettings,
        exchanges=exchanges,
        symbols=symbols,
        symbols_file=symbols_file,
        granularity_minutes=candle_granularity_minutes,
        backfill_start_date=backfill_start_date,
        min_exchanges_required=min_exchanges_required,
        api_call_delay_seconds=api_call_delay_seconds,
    )
    named = any((exchanges, symbols, symbols_file))
    if follow and not settings.enabled and not named:  # as supervisord starts it
        get_logger().info(events.DISABLED, text="EXCHANGE_CANDLES_ENABLED is false")
        return 0
    return run(settings, Request(follow, run_mode == "dry", dry_run_limit), Stop().listen())


if __name__ == "__main__":
    main()

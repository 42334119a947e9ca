"""The demonstration's report, shown when its data has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import psycopg
from rich.console import Console
from rich.table import Table
from supervisor.xmlrpc import SupervisorTransport

from pipeline.core.errors import Unavailable
from pipeline.core.settings import PROJECT, DashboardSettings, DatabaseSettings, load
from pipeline.database import query
from pipeline.database.connection import Connection, connect
from pipeline.ops import collect
from venues.adapter import Proof
from venues.registry import adapters

_ARCHIVED = ("instrument", "kind", "from", "to", "", "rows", "bytes a row")
# Rows of the recorded Dukascopy hours (simulator/recordings).
RECORDED = {
    "EUR-USD quotes of 2019-02-04 (136,741)": ("quotes", "dukascopy", "EUR-USD", 136_741),
    "BTC-USD quotes of two hours (14,716)": ("quotes", "dukascopy", "BTC-USD", 14_716),
}


def _expected() -> dict[str, tuple[str, str, str, int]]:
    """Return what the demonstration promises: kind, venue, product, minimum number of rows; some of each venue."""
    live = ((one, load(one.settings)) for one in adapters().values())
    first = ((one, one.products(its)[0]) for one, its in live if its.enabled)
    return RECORDED | {
        f"live {one.title} {product} {kind}": (kind, one.name, product, 10)
        for one, product in first
        for kind in ["tickers" if one.proof is Proof.SAMPLED else "trades"]
    }


def arrived(since: datetime) -> dict[str, bool]:
    """Return for everything promised whether it is stored; streamed data must have arrived after `since`."""
    try:
        with connect(load(DatabaseSettings), "demo", read_only=True) as connection:
            made = query.scalar(connection, "SELECT to_regclass('completeness')")
            asked = "SELECT kind, venue, product_id, rows, last_at FROM completeness"
            rows = connection.execute(asked).fetchall() if made else []
            asked = (
                "SELECT EXISTS (SELECT FROM archived"
                " WHERE (venue, product_id, from_ts) = ('dukascopy', 'EUR-USD', '2019-02-04 00:00+00'))"
            )
            archived = bool(made and query.scalar(connection, asked))
    except (Unavailable, psycopg.Error):
        rows, archived = [], False
    stored = {
        (str(kind), venue, product): count
        for kind, venue, product, count, last_at in rows
        if kind == "quotes" or last_at >= since
    }
    arrived = {
        name: stored.get((kind, venue, product), 0) >= least
        for name, (kind, venue, product, least) in _expected().items()
    }
    return arrived | {"EUR-USD 2019-02-04 in the archive": archived}


def show(console: Console, conf: Path) -> None:
    """Print what is running, completeness, the latest candles and commands to explore further."""
    console.print(_processes(f"unix://{conf.parent / 'sock'}"))
    console.print(_completeness())
    with connect(load(DatabaseSettings), "demo", read_only=True) as connection:
        console.print(_candles(connection))
        console.print(_archived(connection))
    ctl = conf.relative_to(PROJECT) if conf.is_relative_to(PROJECT) else conf
    console.print("\n[bold]Look further[/bold]")
    for command, what in (
        ("scripts/psql --demo -c 'SELECT * FROM candles_1h ORDER BY bucket DESC LIMIT 10'", "candles"),
        ("scripts/psql --demo", "all tables and views: \\d"),
        ("scripts/psql --demo -c 'SELECT * FROM archived'", "files of the archive"),
        ("scripts/duckdb --demo -c 'SELECT count(*), max(bid) FROM quotes'", "the archive in DuckDB"),
        ("scripts/pulsar-admin --demo topics list market-data/trades", "topics"),
        (
            "scripts/pulsar-client --demo consume -s look -p Earliest -n 2 -st auto_consume "
            f"market-data/trades/{next(iter(adapters()))}.btc-usd",
            "messages",
        ),
        (f".venv/bin/supervisorctl -c {ctl} status", "processes"),
    ):
        console.print(f"  {command}   [dim]{what}[/dim]", soft_wrap=True)
    console.print(f"  http://127.0.0.1:{load(DashboardSettings).port}   [dim]dashboard[/dim]")


def _table(title: str, *columns: str) -> Table:
    """Make a table that fits into 80 columns; columns after an empty name are numbers."""
    table = Table(box=None, title=title, title_justify="left", title_style="bold", padding=(0, 1), pad_edge=False)
    right = False
    for name in columns:
        if name:
            table.add_column(name, justify="right" if right else "left", no_wrap=True, header_style="dim")
        right = right or not name
    return table


def _processes(socket: str) -> Table:
    table = _table("\nWhat runs", "program", "state", "since")
    try:
        server = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, socket))
        states: Any = server.supervisor.getAllProcessInfo()
    except (OSError, RpcError) as error:
        states = [{"name": "supervisord", "statename": "does not answer", "description": str(error)}]
    for state in states:
        word = "done or off" if state["statename"] == "EXITED" else state["statename"].lower()
        table.add_row(state["name"], word, state["description"])
    return table


def _completeness() -> Table:
    table = _table(
        "\nCompleteness per instrument", "instrument", "kind", "from", "to", "", "rows", "missing", "complete"
    )
    for one in collect.instruments(None):
        absent = ("?" if one.live else "") if one.missing is None else f"{one.missing:,}"
        span = _day(one.first_at), _minute(one.last_at)
        table.add_row(f"{one.venue} {one.product_id}", one.kind, *span, f"{one.rows:,}", absent, one.complete)
    return table


@dataclass(frozen=True)
class _Candle:
    """A row of `candles_1m`."""

    venue: str
    product_id: str
    bucket: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    ticks: int


def _candles(connection: Connection) -> Table:
    numbers = ("open", "high", "low", "close", "volume", "ticks")
    table = _table("\nLatest candles of one minute (view candles_1m)", "instrument", "minute", "", *numbers)
    newest = query.rows(
        connection,
        _Candle,
        "SELECT DISTINCT ON (venue, product_id) venue, product_id, bucket, open, high, low, close, volume, ticks"
        " FROM candles_1m ORDER BY venue, product_id, bucket DESC",
    )
    for one in newest:
        prices = [f"{price.normalize():f}" for price in (one.open, one.high, one.low, one.close)]
        name = f"{one.venue} {one.product_id}"
        table.add_row(name, _minute(one.bucket), *prices, f"{one.volume:.6g}", f"{one.ticks:,}")
    return table


def _archived(connection: Connection) -> Table:
    table = _table("\nThe archive (view archived): days that are over, as Parquet files", *_ARCHIVED)
    asked = (
        "SELECT venue, product_id, kind, from_ts, to_ts - INTERVAL '1 day', rows, bytes::float8 / rows FROM archived"
        " ORDER BY venue, product_id, kind, from_ts"
    )
    for venue, product, kind, first, last, rows, size in connection.execute(asked):
        table.add_row(f"{venue} {product}", kind, _day(first), _day(last), f"{rows:,}", f"{size:.2f}")
    return table


def _day(at: Any) -> str:
    return "" if at is None else f"{at:%Y-%m-%d}"


def _minute(at: Any) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"

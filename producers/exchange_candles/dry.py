"""`--run-mode=dry`: what would be fetched, and the first candles of it as they would be published."""

from __future__ import annotations

from collections.abc import Iterable

import click

from pipeline.database import Connection
from pipeline.errors import Refused, Unavailable
from pipeline.process import now_us
from pipeline.times import us_to_iso
from producers.exchange_candles import pages, state
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.worker import Plan


def show(conn: Connection | None, exchange: Exchange, products: Iterable[str], plan: Plan, limit: int) -> list[str]:
    """Print the plan of one exchange and at most `limit` candles per product; returns what went wrong."""
    if not exchange.loaded:
        return [f"{exchange.venue} does not answer"]
    problems: list[str] = []
    for product_id in products:
        if not exchange.lists(product_id):
            click.echo(f"{exchange.venue} {product_id}: not listed")
            continue
        end = pages.closed_end_us(now_us(), plan.granularity_s)
        key = (exchange.venue, product_id, plan.granularity_s)
        spans = state.open_spans(conn, *key, plan.start_us, end) if conn else [(plan.start_us, end)]
        candles = sum(to_us - from_us for from_us, to_us in spans) // (plan.granularity_s * 1_000_000)
        calls = sum(pages.calls_needed(a, b, plan.granularity_s, exchange.page_size) for a, b in spans)
        click.echo(f"{exchange.venue} {product_id}: would fetch up to {candles} candles with about {calls} calls")
        for from_us, to_us in spans:
            click.echo(f"  {us_to_iso(from_us)} .. {us_to_iso(to_us)}")
        if not spans or limit <= 0:
            continue
        try:
            page = exchange.page(product_id, plan.granularity_s, spans[0][0], min(limit, exchange.page_size))
        except (Unavailable, Refused) as error:
            problems.append(f"{exchange.venue} {product_id}: {error}")
            continue
        for row in page.rows[:limit]:
            kind = "final" if row["final"] else "running"
            values = " ".join(f"{name}={row[name]}" for name in ("open", "high", "low", "close", "volume"))
            click.echo(f"  would write {us_to_iso(row['bucket_us'])} {values} {kind}")
    return problems

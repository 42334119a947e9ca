"""`--run-mode=dry`: show what would be fetched, and the first candles as they would be published."""

from __future__ import annotations

from collections.abc import Iterable

import click
import psycopg

from pipeline.core.errors import Refused, Unavailable
from pipeline.core.times import us_to_iso
from pipeline.database.connection import Connection
from producers.exchange_candles import ledger, pages
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.plan import Plan
from producers.exchange_candles.rows import NAMES, floor_us


def show(conn: Connection | None, exchange: Exchange, products: Iterable[str], plan: Plan, limit: int) -> list[str]:
    """Print the plan of one exchange and at most `limit` candles per product; returns the problems."""
    if not exchange.loaded:
        return [f"{exchange.venue} does not answer"]
    problems: list[str] = []
    for product_id in products:
        if not exchange.lists(product_id):
            click.echo(f"{exchange.venue} {product_id}: not listed")
            continue
        try:
            problems += _show_product(conn, exchange, product_id, plan, limit)
        except (Unavailable, Refused, psycopg.Error) as error:
            problems.append(f"{exchange.venue} {product_id}: {error}")
    return problems


def _show_product(conn: Connection | None, exchange: Exchange, product_id: str, plan: Plan, limit: int) -> list[str]:
    width = plan.width_us
    end = floor_us(exchange.now_us() - plan.settle_us, width)
    key = (exchange.venue, product_id, plan.granularity_s)
    spans = ledger.open_spans(conn, *key, plan.start_us, end) if conn else [(plan.start_us, end)]
    candles = sum(to_us - from_us for from_us, to_us in spans) // width
    # Every candle needs two looks.
    calls = sum(2 * pages.calls_needed(a, b, plan.granularity_s, exchange.page_size) for a, b in spans)
    click.echo(f"{exchange.venue} {product_id}: would fetch up to {candles} candles with at most about {calls} calls")
    for from_us, to_us in spans:
        click.echo(f"  {us_to_iso(from_us)} .. {us_to_iso(to_us)}")
    if not spans or limit <= 0:
        return []
    answer = exchange.candles(product_id, plan.granularity_s, spans[0][0], min(limit, exchange.page_size))
    good = sorted((b, values) for b, values in answer.rows.good.items() if values and b >= spans[0][0])
    for bucket, values in good[:limit]:
        text = " ".join(f"{name}={value}" for name, value in zip(NAMES, values, strict=True))
        settled = bucket + width <= answer.at_us - plan.settle_us
        click.echo(f"  would write {us_to_iso(bucket)} {text} {'final' if settled else 'not final yet'}")
    return [
        f"{exchange.venue} {product_id}: refused row {bad.detail} ({bad.reason})" for bad in answer.rows.refused[:5]
    ]

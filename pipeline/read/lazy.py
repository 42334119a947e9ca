"""Trades and quotes as lazy Polars frames, which read only the columns and rows of the files that a query needs."""

from __future__ import annotations

from typing import Any

from pipeline.archive.layout import Kind
from pipeline.core.settings import ArchiveSettings, load
from pipeline.read.columns import library
from pipeline.read.request import Moment
from pipeline.read.ticks import FIELDS, located


def scan_trades(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Any:
    """Return a `polars.LazyFrame` of trades: time, trade_id, price, quantity, taker_side. Requires polars.

    Rows that are not archived are read at once. Replaced files are kept for a day: scan again after that.
    """
    return _scan("trades", venue, product, start, end, exact)


def scan_quotes(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Any:
    """Return a `polars.LazyFrame` of quotes: time, bid, ask, bid_size, ask_size; otherwise like `scan_trades`."""
    return _scan("quotes", venue, product, start, end, exact)


def _scan(kind: Kind, venue: str, product: str, start: Moment, end: Moment, exact: bool) -> Any:
    polars = library("polars")

    storage, found = located(kind, venue, product, start, end, exact)
    number = polars.Decimal(38, 18) if exact else polars.Float64
    taken = [polars.col("ts").alias("time")]
    for name in FIELDS[kind][1:]:
        column = polars.col(name)
        taken.append(column if name in ("trade_id", "taker_side") else column.cast(number))
    frames, options = [], _options(load(ArchiveSettings))
    for part in found:
        if part.table is not None:
            frames.append(polars.from_arrow(part.table).lazy())
            continue
        assert part.about.file is not None  # what is in no file was read from the tables
        about, span = part.about, part.about.file.span
        frame = polars.scan_parquet(f"{storage.address}{part.about.file.path}", glob=False, storage_options=options)
        if about.from_ts > span.from_ts:
            frame = frame.filter(polars.col("ts") >= about.from_ts)
        if about.to_ts < span.to_ts:
            frame = frame.filter(polars.col("ts") < about.to_ts)
        frames.append(frame.select(taken))
    if not frames:  # of an empty interval
        types = {"time": polars.Datetime("us", "UTC"), "trade_id": polars.Int64, "taker_side": polars.String}
        return polars.LazyFrame(schema={name: types.get(name, number) for name in ("time", *FIELDS[kind][1:])})
    return polars.concat(frames)


def _options(settings: ArchiveSettings) -> dict[str, str] | None:
    """Return Polars' options for object storage."""
    if not settings.place.startswith("s3://"):
        return None
    options = {"aws_region": settings.s3_region}
    if settings.s3_endpoint is not None:
        options |= {"aws_endpoint_url": settings.s3_endpoint, "aws_allow_http": "true"}
    if settings.s3_access_key is not None and settings.s3_secret_key is not None:
        secret = settings.s3_secret_key.get_secret_value()
        options |= {"aws_access_key_id": settings.s3_access_key, "aws_secret_access_key": secret}
    return options

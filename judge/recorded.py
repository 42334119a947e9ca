"""Compare the recorded hours of quotes, from the simulator's files, with what is read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.core.times import from_us
from producers.dukascopy.feeds.bi5 import parse_hour
from simulator.config import RECORDINGS

_FOLDER = RECORDINGS / "dukascopy" / "bi5"


def differences(product: str, read: pa.Table) -> list[str]:
    """Number, times, bids and asks of a product's quotes against the recording; empty when they are the same."""
    times, bids, asks = [], [], []
    for file in sorted((_FOLDER / product.replace("-", "")).rglob("*h_ticks.bi5")):
        year, month, day, name = file.parts[-4:]
        hour = np.datetime64(f"{year}-{int(month) + 1:02}-{day}T{name[:2]}", "us").astype(np.int64)
        quotes = parse_hour(file.read_bytes())
        times.append(quotes.offset_ms * 1000 + hour)
        bids.append(quotes.bid)
        asks.append(quotes.ask)
    ts = np.concatenate(times)
    got = np.array(read["time"].cast(pa.int64()).to_pylist(), dtype=np.int64)
    if len(got) != len(ts):
        return [f"dukascopy {product}: {len(got)} quotes are read, {len(ts)} were recorded"]
    if len(wrong := np.flatnonzero(got != ts)):
        return [f"dukascopy {product}: quote {wrong[0]} is read as of {from_us(int(got[wrong[0]]))}"]
    for name, recorded in (("bid", np.concatenate(bids)), ("ask", np.concatenate(asks))):
        values = read[name].to_pylist()
        unit = values[0] / int(recorded[0])  # the files count in units of the last decimal
        if bad := [number for number, value in enumerate(values) if value != unit * int(recorded[number])]:
            return [f"dukascopy {product}: {name} of quote {bad[0]} is read as {values[bad[0]]}"]
    return []

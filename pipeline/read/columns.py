"""Results as columns, convertible to numpy, pandas, polars and Arrow."""

from __future__ import annotations

from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.archive.wide import scaled_integers
from pipeline.core.errors import WrongUse
from pipeline.core.products import TAKER_SIDES

Array = npt.NDArray[Any]
EXACT = pa.decimal128(38, 18)
TIME = pa.timestamp("us", tz="UTC")
_LARGEST = 1 << 53
"""Integers up to here are exact as float64."""


class Columns:
    """Columns of equal length, by name."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._arrays: dict[str, Array] = {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            self._arrays[name] = _array(self._table[name])
        return self._arrays[name]

    def arrow(self) -> pa.Table:
        """Return a `pyarrow.Table`: times as timestamp[us, UTC], numbers as float64, or decimal128(38, 18) if
        `exact`."""
        return self._table

    def numpy(self) -> dict[str, Array]:
        """Return numpy arrays; of `decimal.Decimal` objects if `exact`."""
        return {name: self[name] for name in self._table.column_names}

    def pandas(self) -> Any:
        """A `pandas.DataFrame` indexed by time (UTC). Needs pandas (`scripts/setup --dev` brings it)."""
        pandas = library("pandas")

        frame = pandas.DataFrame(self.numpy())
        frame["time"] = frame["time"].dt.tz_localize("UTC")
        if "taker_side" in frame:
            frame["taker_side"] = pandas.Categorical(frame["taker_side"], categories=list(TAKER_SIDES))
        return frame.set_index("time")

    def polars(self) -> Any:
        """A `polars.DataFrame`; with `exact` of Decimal(38, 18). Needs polars, as above."""
        polars = library("polars")

        return polars.from_arrow(self._table)


def library(name: str) -> Any:
    """A library that is only in the development set-up. Raises `WrongUse` that says how to get it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise WrongUse(f"{name} is not installed; `scripts/setup --dev` brings it (or pip install {name}).") from None


def floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the float64 nearest to each decimal, like the database; pyarrow's own cast may be off by one bit."""
    return pa.chunked_array([_nearest(chunk) for chunk in column.chunks], pa.float64())


def _nearest(chunk: pa.Array) -> pa.Array:
    values = scaled_integers(chunk) if len(chunk) else None
    if values is not None and max(-int(values.min()), int(values.max())) <= _LARGEST:
        return pa.array(values / 10.0**chunk.type.scale)  # both exact, so the quotient is rounded once
    return chunk.cast(pa.string()).cast(pa.float64())


def _array(column: pa.ChunkedArray) -> Array:
    """Convert to numpy. Decimals and texts have few distinct values, so each object is created once: 20 times as fast
    as one per row."""
    if not (pa.types.is_decimal(column.type) or pa.types.is_string(column.type)):
        made: Array = column.to_numpy()
        return made
    encoded = column.combine_chunks().dictionary_encode()
    values: list[Any] = encoded.dictionary.to_pylist()
    if pa.types.is_string(column.type):
        return np.asarray(np.array(values, dtype=str)[encoded.indices.to_numpy()])
    objects = np.empty(len(values) + 1, dtype=object)
    objects[:-1] = [Decimal(format(value, "f").rstrip("0").rstrip(".")) for value in values]  # the last one: None
    return np.asarray(objects[encoded.indices.fill_null(len(values)).to_numpy()])

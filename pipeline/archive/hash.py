"""A hash of rows, independent of their storage, to compare the contents of a span.

Rows are in the layout's order (`docs/archive.md`). For every UTC hour that has rows, and for every column in turn,
SHA-256 goes over the column's values one after another, little-endian: a decimal as the 16-byte two's complement
integer of value x 10^18, everything else as an int64 (times in microseconds since 1970, the place in the documented
list for taker side and origin, 0 or 1 for a boolean). An hour's digest is the SHA-256 over those of its columns; the
hash is the SHA-256 over the hours: start in microseconds (int64), number of rows (int64), digest. Venue and product
are not part of it: they name it.

So it can be computed piece by piece, or by hour in parallel, and differences can be located by hour and column. The
number of decimals written is not part of a value: 1.10 equals 1.1.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.layout import DECIMALS, WORDS, Column, Layout
from pipeline.archive.wide import products, scaled_integers
from pipeline.core.times import HOUR_US

WIDE = pa.decimal128(38, DECIMALS)


class RowsHash:
    """Computes the hash of one span from pieces in order."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._hours = hashlib.sha256()
        self._hour: int | None = None
        self._count = 0
        self._columns: list[Any] = []
        self.rows = 0

    def update(self, rows: pa.Table) -> None:
        """Add rows: a table with at least the layout's columns, in any of the types of a file."""
        if not len(rows):
            return
        hours = np.asarray(integers(rows[self._layout.time], "time")) // HOUR_US
        starts = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
        if hours[0] != self._hour:
            self._close()
        digests = [[hashlib.sha256() for _ in self._layout.columns] for _ in starts[1:]]
        if self._hour is not None:
            digests[0] = self._columns
        # One column after the other, so that the memory of its values is used again: 95 ns a quote instead of 138.
        for number, column in enumerate(self._layout.columns):
            width = 16 if column.type == "decimal" else 8
            values = _values(rows[column.name], column)
            for hour, (low, high) in zip(digests, pairwise(starts), strict=True):
                hour[number].update(values[low * width : high * width])
        for hour, (low, high) in zip(digests, pairwise(starts), strict=True):
            if hours[low] != self._hour:
                self._close()
                self._hour = int(hours[low])
            self._columns = hour
            self._count += high - low
        self.rows += len(rows)

    def _close(self) -> None:
        if self._hour is None:
            return
        digest = hashlib.sha256(b"".join(one.digest() for one in self._columns)).digest()
        self._hours.update(np.array([self._hour * HOUR_US, self._count], dtype="<i8").tobytes() + digest)
        self._hour, self._count = None, 0

    def hexdigest(self) -> str:
        """Return the hash of all rows. No rows may be added afterwards."""
        self._close()
        return self._hours.hexdigest()


def _values(column: pa.ChunkedArray, about: Column) -> memoryview:
    """Return the values as bytes, without a copy per value."""
    if about.type == "decimal":
        array = _contiguous(column)
        scaled = scaled_integers(array)
        if scaled is not None and 0 <= column.type.scale <= DECIMALS:
            wide: memoryview = products(scaled, 10 ** (DECIMALS - column.type.scale)).reshape(-1).data
            return wide.cast("B")
        array = _contiguous(column.cast(WIDE))
        begin = array.offset * 16
        return memoryview(array.buffers()[1])[begin : begin + len(array) * 16]
    values: memoryview = integers(column, about.type).data
    return values.cast("B")


def integers(column: pa.ChunkedArray, type_: str) -> Any:
    """Return a non-decimal column as int64 for hashing: times in microseconds, words by their position."""
    if type_ in WORDS:
        column = pc.index_in(column, value_set=pa.array(WORDS[type_]))
    array = _contiguous(column.cast(pa.int64()))
    return np.frombuffer(array.buffers()[1], dtype="<i8")[array.offset : array.offset + len(array)]


def _contiguous(column: pa.ChunkedArray) -> pa.Array:
    made = column.combine_chunks()
    if made.null_count:
        raise ValueError(f"{made.null_count} values are missing or none of those that are known")
    return made

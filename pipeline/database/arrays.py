"""Arrays as statement parameters, encoded by numpy in PostgreSQL's binary format.

psycopg encodes a list element by element, 0.3 us each, and a batch of a quiet product's old trades has one candle per
trade. A numpy call costs 1 us, so short arrays are passed as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg.abc import DumperKey, PyFormat
from psycopg.adapt import Dumper
from psycopg.pq import Format

from pipeline.database.copy import Field, Int4, Int8, Scaled, Time, arrays

_TYPES: dict[type[Field], str] = {Int4: "int4", Int8: "int8", Time: "timestamptz", Scaled: "numeric"}


@dataclass(frozen=True, slots=True)
class Array:
    """A parameter: an array encoded by `pipeline.database.copy.arrays`, whose elements have the type of `kind`."""

    kind: type[Field]
    data: bytes


def parameters(fields: Mapping[str, Field]) -> dict[str, Array]:
    """Return columns of equal length as parameters. Encoded together: a numpy call costs 1 us, however short they
    are."""
    kinds = [type(field) for field in fields.values()]
    made = arrays(list(fields.values()), [psycopg.adapters.types[_TYPES[kind]].oid for kind in kinds])
    return dict(zip(fields, map(Array, kinds, made), strict=True))


def array(values: Iterable[int | str]) -> str:
    """Return a short array as text. The elements must be numbers, or words that need no quoting."""
    return f"{{{','.join(map(str, values))}}}"


class _ArrayDumper(Dumper):
    """Passes the encoded bytes through to the server."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: PyFormat) -> DumperKey:
        return self.cls, obj.kind

    def upgrade(self, obj: Array, format: PyFormat) -> Dumper:
        made = _ArrayDumper(self.cls)
        made.oid = psycopg.adapters.types[_TYPES[obj.kind]].array_oid
        return made

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)

"""Arrays as parameters of statements, made by numpy in PostgreSQL's binary format.

psycopg writes a list element by element, 0.3 us each, and a batch of a quiet product's old trades has a candle per
trade.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.abc import DumperKey, PyFormat
from psycopg.adapt import Dumper
from psycopg.pq import Format

from pipeline.database.copy import Field, Int4, Int8, Scaled, Time, array

_TYPES: dict[type[Field], str] = {Int4: "int4", Int8: "int8", Time: "timestamptz", Scaled: "numeric"}


@dataclass(frozen=True, slots=True)
class Array:
    """A parameter: `data` as `pipeline.database.copy.array` makes it, of elements of the type of `kind`."""

    kind: type[Field]
    data: bytes

    @classmethod
    def of(cls, field: Field) -> Array:
        return cls(type(field), array(field, psycopg.adapters.types[_TYPES[type(field)]].oid))


class _ArrayDumper(Dumper):
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

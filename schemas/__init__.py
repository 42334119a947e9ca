"""The contract between processes: `*.avsc`, and the stock client's schema object made from them.

Records are plain dicts. `registered(name)` is what a producer or reader hands to the Pulsar client; `decode` reads a
message that was written with exactly our schema version (the writing loops use it, see `consumers.inbox`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import fastavro
from pulsar.schema import AvroSchema

NAMES = ("trades", "ticker", "quotes", "candles", "gap", "head", "dead_letter", "topic")


@cache
def definition(name: str) -> dict[str, Any]:
    """The `.avsc` as a dict."""
    text = resources.files(__name__).joinpath(f"{name}.avsc").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def parsed(name: str) -> Any:
    return fastavro.parse_schema(definition(name))


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """Avro bytes of one record, without header."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed(name), record)
    return buffer.getvalue()


def decode(name: str, data: bytes) -> dict[str, Any]:
    """The record in `data`, which was written with the present schema."""
    record = fastavro.schemaless_reader(io.BytesIO(data), parsed(name), None)
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return record


class RegisteredSchema(AvroSchema):  # type: ignore[misc]  # the client has no types
    """The stock `AvroSchema` that also takes bytes which are already encoded.

    The stock encoder parses the schema for each message (96 k records/s; with the parsed schema 230 k), and an hour of
    quotes is encoded by numpy (`schemas.columns`). The bytes and what is registered with the broker are the same.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, schema_definition=definition(name))
        self._name = name

    def encode(self, obj: Mapping[str, Any] | bytes) -> bytes:
        return obj if isinstance(obj, bytes) else encode(self._name, obj)


def registered(name: str) -> RegisteredSchema:
    """A new schema object for one producer or reader (the client binds itself to it)."""
    return RegisteredSchema(name)

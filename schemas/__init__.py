"""The contract between processes: `*.avsc`, their codecs, and schema objects for the Pulsar client.

Records are the types of `schemas.records`, or plain dicts. `registered(name)` returns the schema object that a producer
or reader passes to the Pulsar client; `decode` reads a message's bytes (used by the writers, see
`consumers.subscription`).
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import fastavro
import msgspec
from msgspec import Struct
from pulsar.schema import AvroSchema

from pipeline.core.errors import BadData

NAMES = ("trades", "ticker", "quotes", "candles", "gap", "head", "dead_letter")
Layout = int | str | None
"""Layout of a message's bytes. None: our schema; an int: only its first fields; a str: why they cannot be read."""


@cache
def definition(name: str) -> dict[str, Any]:
    """Return the `.avsc` as a dict."""
    text = resources.files(__name__).joinpath(f"{name}.avsc").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def parsed(name: str) -> Any:
    """Return the `.avsc` as parsed by fastavro."""
    return fastavro.parse_schema(definition(name))


def encode(name: str, record: Mapping[str, Any] | Struct) -> bytes:
    """Encode one record (a type of `schemas.records`, or a dict) as Avro without header."""
    if isinstance(record, Struct):
        record = msgspec.to_builtins(record)
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed(name), record)
    return buffer.getvalue()


def decode(name: str, data: bytes, layout: Layout = None) -> dict[str, Any]:
    """Decode one record. Raises `BadData` if its layout is not readable, and whatever Avro raises."""
    if layout is None:
        record = fastavro.schemaless_reader(io.BytesIO(data), parsed(name), None)
    elif isinstance(layout, str):
        raise BadData("schema", layout)
    else:
        record = fastavro.schemaless_reader(io.BytesIO(data), _first_fields(name, layout), None)
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return record if layout is None else {**_defaults(name, int(layout)), **record}


def layout(name: str, written: str) -> Layout:
    """Return how to read messages written with the Avro schema `written` (JSON), which the broker accepted.

    The broker accepts additional fields with a default at any position, so bytes mean nothing without their schema.
    Only schemas that start like ours are read: additional fields at the end are ignored, and fields missing at the end
    of an older version get their default. A foreign schema is never used for decoding: it may claim that a few bytes
    are a billion nulls.
    """
    try:
        theirs, ours = _shapes(json.loads(written)), _shapes(definition(name))
    except Exception as error:  # whatever a foreign schema raises here
        return f"written with an invalid schema: {type(error).__name__}"
    if theirs[: len(ours)] == ours:
        return None
    missing = definition(name)["fields"][len(theirs) :]
    if ours[: len(theirs)] == theirs and all("default" in field for field in missing):
        return len(theirs)
    return "written with other fields than our schema's"


def _shapes(schema: Mapping[str, Any]) -> list[Any]:
    """Return name and structural type of each field, without documentation, defaults and type names."""
    named: dict[str, Any] = {}
    return [(field["name"], _shape(field["type"], named)) for field in schema["fields"]]


def _shape(kind: Any, named: dict[str, Any]) -> Any:
    if isinstance(kind, list):
        return [_shape(one, named) for one in kind]
    if isinstance(kind, str):
        return named.get(kind.rsplit(".", 1)[-1], kind)
    if kind["type"] == "array":
        return "array", _shape(kind["items"], named)
    if kind["type"] == "enum":
        made: Any = "enum", tuple(kind["symbols"])
    elif kind["type"] == "record":
        made = "record", [(field["name"], _shape(field["type"], named)) for field in kind["fields"]]
    else:
        return _shape(kind["type"], named)
    named[kind["name"].rsplit(".", 1)[-1]] = made
    return made


@cache
def _first_fields(name: str, count: int) -> Any:
    whole = definition(name)
    return fastavro.parse_schema({**whole, "name": f"{whole['name']}{count}", "fields": whole["fields"][:count]})


def _defaults(name: str, count: int) -> dict[str, Any]:
    return {field["name"]: copy.copy(field["default"]) for field in definition(name)["fields"][count:]}


class RegisteredSchema(AvroSchema):  # type: ignore[misc]  # the client has no types
    """The client's `AvroSchema`, which also accepts bytes that are already encoded.

    Measured: the client's encoder parses the schema for each message (96 k records/s; with a parsed schema 230 k), and
    an hour of quotes is encoded by numpy (`schemas.columns`). The bytes and the registered schema are the same.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, schema_definition=definition(name))
        self._name = name

    def encode(self, obj: Mapping[str, Any] | Struct | bytes) -> bytes:
        return obj if isinstance(obj, bytes) else encode(self._name, obj)


def registered(name: str) -> RegisteredSchema:
    """Return a new schema object for one producer or reader (the client binds itself to it)."""
    return RegisteredSchema(name)

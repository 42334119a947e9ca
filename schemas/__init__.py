"""The contract between processes: `*.avsc`, and the stock client's schema object made from them.

Records are the types of `schemas.records`, or plain dicts. `registered(name)` is what a producer or reader hands to the
Pulsar client; `decode` reads a message that was written with exactly our schema version (the writing loops use it, see
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
"""How bytes are laid out: None as our schema, a number: only its first fields, a text: why they cannot be read."""


@cache
def definition(name: str) -> dict[str, Any]:
    """The `.avsc` as a dict."""
    text = resources.files(__name__).joinpath(f"{name}.avsc").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def parsed(name: str) -> Any:
    return fastavro.parse_schema(definition(name))


def encode(name: str, record: Mapping[str, Any] | Struct) -> bytes:
    """Avro bytes of one record (a type of `schemas.records`, or a dict), without header."""
    if isinstance(record, Struct):
        record = msgspec.to_builtins(record)
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed(name), record)
    return buffer.getvalue()


def decode(name: str, data: bytes, layout: Layout = None) -> dict[str, Any]:
    """The record in `data`. Raises `BadData` where its layout is not ours, and whatever Avro raises."""
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
    """How to read what was written with the Avro schema `written` (JSON), which the broker let pass.

    The broker lets pass any field with a default, wherever it stands, so that bytes say nothing without their schema.
    Read is what begins as ours does: fields behind ours are left alone, and fields of ours that an older version did
    not have yet get their default. Nothing else is ever read by a schema of somebody else, which may say that a few
    bytes are a billion nothings.
    """
    try:
        theirs, ours = _shapes(json.loads(written)), _shapes(definition(name))
    except Exception as error:  # whatever a stranger's schema makes of this
        return f"written with a schema that is none: {type(error).__name__}"
    if theirs[: len(ours)] == ours:
        return None
    missing = definition(name)["fields"][len(theirs) :]
    if ours[: len(theirs)] == theirs and all("default" in field for field in missing):
        return len(theirs)
    return "written with other fields than ours"


def _shapes(schema: Mapping[str, Any]) -> list[Any]:
    """Name and bare type of each field: without documentation, defaults and the names of types."""
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
    """The stock `AvroSchema` that also takes bytes which are already encoded.

    The stock encoder parses the schema for each message (96 k records/s; with the parsed schema 230 k), and an hour of
    quotes is encoded by numpy (`schemas.columns`). The bytes and what is registered with the broker are the same.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, schema_definition=definition(name))
        self._name = name

    def encode(self, obj: Mapping[str, Any] | Struct | bytes) -> bytes:
        return obj if isinstance(obj, bytes) else encode(self._name, obj)


def registered(name: str) -> RegisteredSchema:
    """A new schema object for one producer or reader (the client binds itself to it)."""
    return RegisteredSchema(name)

"""The live venues there are: every folder of `venues/` that has an `adapter.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from pipeline.core.settings import venue_sections
from venues.adapter import Adapter


@cache
def adapters() -> dict[str, Adapter[Any]]:
    """By name, in the order of their ports."""
    return {name: adapter_of(name) for name in venue_sections()}


def adapter_of(name: str) -> Adapter[Any]:
    made: Adapter[Any] = import_module(f"venues.{name}.adapter").ADAPTER
    return made

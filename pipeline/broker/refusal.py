"""Describe errors of the broker and its client for users."""

from __future__ import annotations

from typing import Any

import pulsar

from pipeline.core.errors import PipelineError


def sentence(error: Any) -> str:
    """Return an error as text for users: `TopicTerminated`, or the text of our own errors."""
    if isinstance(error, PipelineError):
        return str(error)
    if isinstance(error, pulsar.PulsarException):
        return str(error).removeprefix("Pulsar error: ") or type(error).__name__
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {error}"
    return str(error).removeprefix("Result.")

"""Structured logs: JSON lines on stdout, or coloured lines on a terminal.

`get_logger()` returns a bound structlog logger; events are the constants of `pipeline.core.events`, everything else is
a key. A line is written by a single call, so that lines of several processes on one pipe do not mix.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from typing import Any, TextIO, cast

import structlog

from pipeline.core import events
from pipeline.core.settings import CommonSettings
from pipeline.core.text import printable, redact

_SECRET_KEY = re.compile(r"secret|password|passwd|token|api_key|jwt|authorization", re.IGNORECASE)
# Longer texts are truncated; the complete message is in the dead letters.
MAX_TEXT = 4000
MAX_DEPTH = 4


def _no_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: _clean(key, value, 0) for key, value in event.items()}


def _clean(key: str, value: Any, depth: int) -> Any:
    """Return `value` without secrets and truncated, recursively."""
    if _SECRET_KEY.search(key):
        return "***"
    if key == "exception":
        return redact(value[-MAX_TEXT:])  # the error itself is at the end
    if isinstance(value, str):
        shown = redact(value[:MAX_TEXT])
        return shown if len(value) <= MAX_TEXT else f"{shown}... ({len(value)} characters)"
    if depth < MAX_DEPTH:
        if isinstance(value, dict):
            return {str(inner): _clean(str(inner), one, depth + 1) for inner, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_clean("", one, depth + 1) for one in value]
    # JSON cannot represent inf and nan
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters for a terminal, as JSON does: untrusted text must not control it."""
    return {_visible(key): _visible(value, keep_lines=key == "exception") for key, value in event.items()}


def _visible(value: Any, *, keep_lines: bool = False) -> Any:
    if isinstance(value, int | float | None):
        return value
    return printable(str(value), keep_lines=keep_lines)


def _named(app: str, program: str) -> structlog.typing.Processor:
    """Return a processor that adds app and program. Not context variables, because new threads do not inherit them."""

    def add(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"app": app, "program": program, **event}

    return add


class _Stdout:
    """Writes to the current `sys.stdout`, which a progress bar replaces so that lines appear above the bar."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


def configure(settings: CommonSettings, program: str) -> None:
    """Set up the logging of this process. Call it once at the start."""
    level = logging.DEBUG if settings.debug else getattr(logging, settings.log_level)
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())
    render: list[Any] = (
        [_escaped, structlog.dev.ConsoleRenderer()] if console else [structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[
            _named(settings.app_name, program),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _no_secrets,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stdout())),
        cache_logger_on_first_use=True,
    )
    if not any(isinstance(handler, _Libraries) for handler in logging.root.handlers):
        logging.root.addHandler(_Libraries(logging.WARNING))


class _Libraries(logging.Handler):
    """Forwards log messages of libraries, warnings and worse, as our events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a library's bug in its arguments
            text = str(record.msg)
        say = get_logger().error if record.levelno >= logging.ERROR else get_logger().warning
        say(events.LIBRARY, text=text, library=record.name, exc_info=record.exc_info)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; use `.bind(product=...)` for keys of every line."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger

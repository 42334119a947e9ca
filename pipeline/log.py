"""Structured logs: JSON lines on stdout, or coloured lines on a terminal.

`get_logger()` gives a bound structlog logger; events are the constants of `pipeline.events`, everything else is a
key. A line is written with one call, so that lines of several processes on one pipe do not mix.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO, cast

import structlog

from pipeline.settings import CommonSettings

_SECRET_KEY = re.compile(r"secret|password|passwd|token|api_key|jwt|authorization", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<before>\w+://[^/\s:@]*:)[^@\s/]+@")
_DSN_PASSWORD = re.compile(r"(password=)\S+", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` without passwords in addresses and connection strings."""
    return _DSN_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\g<before>***@", text))


def _no_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = redact(value)
    return event


def _named(app: str, program: str) -> structlog.typing.Processor:
    """Adds who speaks. Not by structlog's context variables: a thread begins with none of them."""

    def add(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"app": app, "program": program, **event}

    return add


class _Stdout:
    """What `sys.stdout` is at the moment of writing: a progress bar on a terminal takes its place, so that lines stand
    above the bar and not inside it."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


def configure(settings: CommonSettings, program: str) -> None:
    """Set up logging of this process, once, at its start."""
    level = logging.DEBUG if settings.debug else getattr(logging, settings.log_level)
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[
            _named(settings.app_name, program),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _no_secrets,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stdout())),
        cache_logger_on_first_use=True,
    )
    # Libraries that log by themselves: warnings and worse only, in our format.
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='{"event": "library", "text": "%(message)s"}')


def get_logger() -> Any:
    """The logger; bind what belongs to every line with `.bind(product=...)`."""
    return structlog.get_logger()

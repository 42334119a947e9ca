"""The error hierarchy: a class per *reaction* of the caller.

::

    PipelineError
    ├── WrongUse            a wrong option or setting: one sentence, exit code 2
    ├── BadData             a row or message that can never be stored: dead letter, continue
    ├── Refused             a definite "no" that will be repeated: report it, skip
    └── Unavailable         retry later (retryable)
        ├── Throttled       ... more slowly; has `retry_after_s`
        └── WrongAnswer     ... the answer is unusable (HTML, truncated, empty, a broker's 500)

`retryable` is part of the class, so that retry loops need no list of errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from pipeline.core.text import printable, redact


class PipelineError(Exception):
    """Base class of all errors raised deliberately. As text it has no password of an address, and is safe for a
    terminal, also where it quotes others."""

    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return printable(redact(super().__str__()), keep_lines=True)


class WrongUse(PipelineError):
    """A wrong option, setting or installation. The text is for users and says what to do."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Context manager that prefixes the sentence of a `WrongUse` with the name of the option or field."""
    try:
        yield
    except WrongUse as error:
        raise WrongUse(f"{name}: {error}") from None


class BadData(PipelineError):
    """Data that can never be stored, even if sent again.

    `reason` is a short constant for dead letters and metrics (``price``, ``schema`` ...); the text is for users.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class Refused(PipelineError):
    """A definite "no" from a venue, the broker or the database (unknown pair, no permission)."""


class Unavailable(PipelineError):
    """The other side did not answer, or not in time; the request itself is fine."""

    retryable = True


class Throttled(Unavailable):
    """Too many requests. `retry_after_s`: the pause in seconds that the other side asked for, if any."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class WrongAnswer(Unavailable):
    """An unusable answer: HTML, truncated, unexpectedly empty, or an error of the broker about what was asked."""

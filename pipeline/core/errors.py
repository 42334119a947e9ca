"""The one error tree: a class per *reaction* of the caller.

::

    PipelineError
    ├── WrongUse            a flag or setting is wrong: one sentence, exit code 2
    ├── BadData             a row or message that can never be stored: dead letter, go on
    ├── Refused             the other side answered "no" and will again: say so, leave it out
    └── Unavailable         try again later (retryable)
        ├── Throttled       ... but slower; carries `retry_after_s`
        └── WrongAnswer     ... the other side sent something that is no answer (HTML, cut off, empty)

`retryable` is part of the class, so that a loop asks the error and not a list of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class PipelineError(Exception):
    """Base of everything this project raises on purpose."""

    retryable: ClassVar[bool] = False


class WrongUse(PipelineError):
    """A flag, a setting or the set-up is wrong. The text is for a person and says what to do."""


@contextmanager
def told_by(name: str) -> Iterator[None]:
    """Name the option or field in the sentence of a `WrongUse` that is raised inside."""
    try:
        yield
    except WrongUse as error:
        raise WrongUse(f"{name}: {error}") from None


class BadData(PipelineError):
    """Data that cannot be stored, whoever sends it again.

    `reason` is a short constant for ledgers and metrics (``price``, ``schema`` ...), the text is for people.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class Refused(PipelineError):
    """A definite "no" of a venue, the broker or the database (unknown pair, no permission)."""


class Unavailable(PipelineError):
    """Nothing wrong with the request: the other side did not answer, or not in time."""

    retryable = True


class Throttled(Unavailable):
    """The other side asks for patience. `retry_after_s` is its own wish where it gave one."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class WrongAnswer(Unavailable):
    """The body of an answer is not what was asked for: HTML, truncated, empty where something must be."""

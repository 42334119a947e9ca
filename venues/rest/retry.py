"""Asking a venue again: how often, after which pauses, and what is said meanwhile. The same for every client."""

from __future__ import annotations

import threading

import structlog
import tenacity

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.stopping import Stopped


def retrying(
    what: str, attempts: int, stop: threading.Event, log: structlog.typing.FilteringBoundLogger
) -> tenacity.Retrying:
    """Calls what it is given until it succeeds, at most `attempts` times, 1, 2, 4 ... 30 s (and up to 1 s more) apart.

    Only errors that are `retryable` are worth it; the last one is raised as it is. Raises `Stopped` out of a pause.
    """

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            events.REQUEST_RETRY,
            request=what,
            attempt=state.attempt_number,
            kind=type(error).__name__,
            error=str(error),
            retry_in_s=round(state.upcoming_sleep, 2),
        )

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, PipelineError) and error.retryable),
        wait=tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1),
        stop=tenacity.stop_after_attempt(attempts),
        sleep=sleep,
        before_sleep=say,
        reraise=True,
    )

"""Retry policies, based on tenacity.

`retry` is the general one; `keep_trying` waits for a service, `retry_request` retries requests to venues. A pause ends
at once when the program should stop. Other schedules are next to what they schedule: reconnects
(`producers.live.backoff`), publishers opened in the background (`pipeline.broker.opener`), circuit breakers
(`producers.dukascopy.feeds.web`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity
from tenacity.wait import wait_base

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped

T = TypeVar("T")
LOG_EVERY_S = 10.0  # while waiting for one service
Errors = type[Exception] | tuple[type[Exception], ...]


def retry(
    call: Callable[[], T],
    stop: threading.Event,
    *,
    retry_on: Errors | Callable[[BaseException], bool],
    wait: wait_base,
    attempts: int | None = None,
    before_wait: Callable[[BaseException, float], None] = lambda _error, _seconds: None,
) -> T:
    """Return the result of `call`, retried after errors that match `retry_on`, with at most `attempts` calls.

    `before_wait(error, seconds)` is called before each pause. Raises the last error unchanged, and `Stopped` if stopped
    during a pause.
    """
    # Tenacity's objects refer to each other, so they keep what `call` and `retry_on` refer to until the garbage
    # collector runs: with them in each batch of a backlog, a writer needed 500 instead of 130 MB. Most calls succeed.
    try:
        return call()
    except Exception as error:
        failed: Exception | None = error

    def call_again() -> T:
        nonlocal failed
        if failed is not None:
            error, failed = failed, None
            raise error
        return call()

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert error is not None  # only errors are retried
        before_wait(error, state.upcoming_sleep)

    worth_it = (
        tenacity.retry_if_exception_type(retry_on)
        if isinstance(retry_on, (type, tuple))
        else tenacity.retry_if_exception(retry_on)
    )
    return tenacity.Retrying(
        retry=worth_it,
        wait=wait,
        stop=tenacity.stop_never if attempts is None else tenacity.stop_after_attempt(attempts),
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )(call_again)


def keep_trying(
    what: str,
    attempt: Callable[[], T],
    stop: threading.Event,
    *,
    retry_on: Errors,
    event: str = events.WAITING,
) -> T | None:
    """Call `attempt` until it succeeds, with pauses growing from 0.2 s to 10 s. Returns None if stopped.

    For services that a supervised program waits for (broker, database).
    """
    logged_at = 0.0

    def log_retry(error: BaseException, _seconds: float) -> None:
        nonlocal logged_at
        if time.monotonic() - logged_at > LOG_EVERY_S:
            logged_at = time.monotonic()
            get_logger().warning(event, on=what, error=str(error) or type(error).__name__)

    if stop.is_set():
        return None
    try:
        wait = tenacity.wait_exponential(multiplier=0.2, exp_base=1.7, max=10)
        return retry(attempt, stop, retry_on=retry_on, wait=wait, before_wait=log_retry)
    except Stopped:
        return None


def retry_request(
    what: str,
    attempt: Callable[[], T],
    attempts: int,
    stop: threading.Event,
    log: structlog.typing.FilteringBoundLogger,
) -> T:
    """Make a request to a venue, at most `attempts` times, with pauses of 1, 2, 4 ... 30 s plus up to 1 s of jitter.

    Only `retryable` errors are retried; the last one is raised unchanged. Raises `Stopped` if stopped during a pause.
    """
    number = 0

    def counted() -> T:
        nonlocal number
        number += 1
        return attempt()

    def log_retry(error: BaseException, seconds: float) -> None:
        log.warning(
            events.REQUEST_RETRY,
            request=what,
            attempt=number,
            kind=type(error).__name__,
            error=str(error),
            retry_in_s=round(seconds, 2),
        )

    return retry(
        counted,
        stop,
        retry_on=lambda error: isinstance(error, PipelineError) and error.retryable,
        wait=tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1),
        attempts=attempts,
        before_wait=log_retry,
    )

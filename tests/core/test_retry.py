"""Prevents: a pause between two tries that delays the end of a program; a wait that floods the log; an error that is
swallowed after the last try; memory that waits for the garbage collector."""

import gc
import threading
import weakref

import pytest
from structlog.testing import capture_logs
from tenacity import wait_fixed, wait_none

from pipeline.core import events
from pipeline.core.errors import Refused, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying, retry, retry_request
from pipeline.core.stopping import Stopped

LONG_S = 3600.0


class Failing:
    """Fails `times` times, then gives 7."""

    def __init__(self, times: int, error: type[Exception] = Unavailable) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error(f"try {self.calls}")
        return 7


def test_a_stop_ends_the_pause_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        retry(Failing(2), stop, retry_on=Unavailable, wait=wait_fixed(LONG_S))


def test_each_pause_is_announced_and_the_last_error_is_raised() -> None:
    said: list[str] = []
    call = Failing(9)
    with pytest.raises(Unavailable, match="try 3"):
        retry(
            call,
            threading.Event(),
            retry_on=Unavailable,
            wait=wait_none(),
            attempts=3,
            before_wait=lambda error, _seconds: said.append(str(error)),
        )
    assert call.calls == 3
    assert said == ["try 1", "try 2"]


def test_what_another_try_cannot_help_is_raised_at_once() -> None:
    call = Failing(9, Refused)
    with pytest.raises(Refused, match="try 1"):
        retry(call, threading.Event(), retry_on=lambda error: isinstance(error, Unavailable), wait=wait_none())
    with pytest.raises(Refused, match="try 2"):
        retry_request("it", call, 5, threading.Event(), get_logger())


def test_waiting_for_a_service_is_said_once_and_ends_when_it_comes() -> None:
    with capture_logs() as logs:
        assert keep_trying("the broker", Failing(3), threading.Event(), retry_on=Unavailable) == 7
    assert [line["on"] for line in logs if line["event"] == events.WAITING] == ["the broker"]


def test_waiting_for_a_service_gives_none_when_stopped() -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    assert keep_trying("the broker", Failing(10**6), stop, retry_on=Unavailable) is None
    call = Failing(0)
    assert keep_trying("the broker", call, stop, retry_on=Unavailable) is None
    assert call.calls == 0


def test_a_request_is_asked_again_after_1_2_and_4_seconds() -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    with capture_logs() as logs:
        assert retry_request("trades", Failing(3), 4, Stop(), get_logger()) == 7
    assert len(pauses) == 3
    assert all(least <= pause <= least + 1 for least, pause in zip((1, 2, 4), pauses, strict=True))
    assert [(line["request"], line["attempt"]) for line in logs] == [("trades", 1), ("trades", 2), ("trades", 3)]


def test_a_call_that_succeeds_keeps_nothing_alive() -> None:
    """Prevents a writer whose memory grows to four times what its batches need, until the collector runs."""

    def call(batch: Failing) -> weakref.ref[Failing]:
        retry(batch, threading.Event(), retry_on=lambda _error: batch.calls < 3, wait=wait_none())
        return weakref.ref(batch)

    gc.collect()
    gc.disable()
    try:
        left = call(Failing(0))
    finally:
        gc.enable()
    assert left() is None

"""Run a request that a live stream waits for only briefly, so that REST cannot hold up the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped

PATIENCE_S = 3.0


class InBackground:
    """Runs one call at a time in a background thread."""

    def __init__(self, venue: str, request: str) -> None:
        self._venue, self._request = venue, request
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
        """Run `call` and wait for it, up to `patience_s` seconds. Does nothing while an earlier call still runs. Never
        raises: `call` may raise `PipelineError`, which is logged, or `Stopped`."""
        if self._thread is not None and self._thread.is_alive():
            return
        name = f"{self._venue}-{self._request}"
        self._thread = threading.Thread(target=self._guarded, args=(call,), name=name, daemon=True)
        self._thread.start()
        self._thread.join(patience_s)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except PipelineError as error:  # the stream continues without it
            get_logger().warning(events.REQUEST_FAILED, venue=self._venue, request=self._request, error=str(error))
        except Stopped:
            return

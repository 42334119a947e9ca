"""Limits of the page's connections: their number and idle time; and an answer with headers to invalid requests.

A half-open request occupies a file descriptor and some 20 kB while it is open. So a connection without a request being
answered is closed after `IDLE_S`, however slowly it sends or reads; and if `MOST` are open, a new one replaces the one
idle for longest. A browser sends its request within milliseconds, so 300 half-open connections do not lock it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiohttp import web

from dashboard.headers import HEADERS, refusal

# A browser opens 6 for each address, and 256 programs may follow events.
MOST = 384
# The largest answer, 5,000 candles, has 500 kB: a line of 40 kB/s is enough.
IDLE_S = 15.0
# The client's own lines and headers come in one piece; what does not fit there is not from a browser.
LINE_BYTES, HEADERS_MOST = 4_096, 64


class Connections:
    """The open connections. `connections()` is a protocol factory for `loop.create_server`."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self.open: dict[Connection, None] = {}  # in the order in which they became idle

    def __call__(self) -> Connection:
        return Connection(
            self,
            self._server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=HEADERS_MOST,
            lingering_time=1.0,
            auto_decompress=False,
        )

    def make_room(self) -> None:
        """If there are too many, close the one idle for longest, or the newest if all are busy."""
        if len(self.open) < MOST:
            return
        oldest = next((one for one in self.open if not one.busy), None)
        if oldest is None:
            oldest = next(reversed(self.open))
        oldest.abort()


class Connection(web.RequestHandler):
    """aiohttp's connection handler, which tracks whether a request is being answered."""

    __slots__ = ("_all", "_timer", "busy")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._all = connections
        self._timer: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._all.make_room()
        super().connection_made(transport)
        self._all.open[self] = None
        self._rest()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.open.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Context manager: the connection is not idle while a request is answered."""
        self.busy = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            self.busy = False
            if self._all.open.pop(self, self) is None:
                self._all.open[self] = None  # idle from now on: last in the order
                self._rest()

    def _rest(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self.abort)

    def abort(self) -> None:
        """Close at once, discarding unsent data."""
        self._all.open.pop(self, None)
        transport = self.transport
        self.force_close()
        if transport is not None:
            with suppress(RuntimeError):  # the loop has ended
                transport.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer invalid requests, which aiohttp handles without the application."""
        response = refusal(status, "invalid request" if status < 500 else "internal error")
        response.headers.update(HEADERS)
        response.force_close()
        return response

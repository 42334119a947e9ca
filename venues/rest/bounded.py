"""A `requests.Session` that bounds every answer in bytes and time, whatever the server sends. No redirects.

`requests` only bounds the time between two reads. Measured: a byte per second kept a request alive for 16 hours, and a
gzipped body of zeros took 5.5 GB in 10 s. Here every read of a connection (status line, headers, chunk lines, body,
trailers) goes through `_Metered`, which counts bytes and limits each read to the remaining time; the body is decoded
piece by piece with a limit on its decoded size. Connecting and the TLS handshake are bounded by the connect timeout.

    session = BoundedSession()            # in place of requests.Session(); also as `session` of a ccxt exchange
    response = session.get(url, timeout=(5, 15))
    # complete; otherwise `TooMuch`, `TooLate` or another RequestException is raised
    response.content

The body is read before `get` returns, also with `stream=True`. As thread-safe as `requests.Session`. Cookies and
`.netrc` are ignored.
"""

from __future__ import annotations

import contextvars
import http.client
import http.cookiejar
import io
import time
import zlib
from typing import Any, cast

import requests
import requests.adapters
import requests.cookies
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

WHOLE_ANSWER_S = 60.0
MAX_BYTES = 32 * 1024 * 1024  # of an answer as sent, headers included, and again when decoded
CONNECT_S, READ_S = 5.0, 15.0  # default timeouts
_PIECE = 65536
# No venue nests encodings, and a limit per encoding would not bound their product.
_DECODERS = {"gzip": 47, "x-gzip": 47, "deflate": 47}  # 32 + 15: zlib tells gzip and zlib apart


class TooMuch(requests.exceptions.ContentDecodingError):
    """The answer is larger than `max_bytes`, as sent or decoded."""


class TooLate(requests.exceptions.ReadTimeout):
    """The answer was not complete within `whole_s`."""


class Redirected(requests.exceptions.TooManyRedirects):
    """The answer is a redirect."""


class _Budget:
    """The bytes and time that one answer may still take."""

    def __init__(self, whole_s: float, max_bytes: int) -> None:
        self.whole_s, self.max_bytes = whole_s, max_bytes
        self._until = time.monotonic() + whole_s
        self.bytes = 0
        self.broken: requests.RequestException | None = None

    def left_s(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._break(TooLate(f"not complete after {self.whole_s:g} s"))
        return left

    def count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.max_bytes:
            raise self._break(TooMuch(f"more than {self.max_bytes} bytes"))

    def _break(self, error: requests.RequestException) -> requests.RequestException:
        self.broken = error  # urllib3 wraps what a read raises; keep the original
        return error


_budget: contextvars.ContextVar[_Budget] = contextvars.ContextVar("budget")


class _Metered(io.RawIOBase):
    """The read side of a connection, for one answer."""

    def __init__(self, raw: Any, sock: Any, budget: _Budget) -> None:
        super().__init__()
        self._raw, self._sock, self._budget = raw, sock, budget
        self._patience: float | None = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._budget.left_s()
        short = self._patience is None or left < self._patience
        self._sock.settimeout(left if short else self._patience)
        try:
            size = cast("int | None", self._raw.readinto(buffer))
        except TimeoutError:
            self._budget.left_s()  # raises `TooLate` if the whole answer's time is up
            raise
        self._budget.count(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        budget = _budget.get(None)
        if budget is not None:
            self.fp.close()
            raw = sock.makefile("rb", buffering=0)
            self.fp = io.BufferedReader(_Metered(raw, sock, budget), _PIECE)


class _Http(HTTPConnection):
    response_class = _Response


class _Https(HTTPSConnection):
    response_class = _Response


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class BoundedSession(requests.Session):
    """See the module. `redirects`: False raises `Redirected` for a 3xx; True returns the 3xx (it is never followed)."""

    def __init__(self, *, whole_s: float = WHOLE_ANSWER_S, max_bytes: int = MAX_BYTES, redirects: bool = False) -> None:
        super().__init__()
        self.whole_s, self.max_bytes, self._redirects = whole_s, max_bytes, redirects
        self.mount("http://", _Adapter())
        self.mount("https://", _Adapter())
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self.auth = lambda request: request  # set, so that .netrc is not read; proxies from the environment still apply
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request and read the complete answer. Every failure while reading raises a `RequestException`."""
        options |= {"allow_redirects": False, "stream": True}
        options["timeout"] = options.get("timeout") or (CONNECT_S, READ_S)
        budget = _Budget(self.whole_s, self.max_bytes)
        token = _budget.set(budget)
        response = None
        try:
            response = super().send(request, **options)
            response._content = _body(response, budget)
            response._content_consumed = True  # type: ignore[attr-defined]
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            if response is not None:
                response.close()
            if budget.broken is not None:
                raise budget.broken from None
            if isinstance(error, requests.RequestException):
                raise
            if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
                raise requests.exceptions.ReadTimeout(str(error)) from None
            raise requests.exceptions.ChunkedEncodingError(str(error)) from None
        finally:
            _budget.reset(token)
        if not self._redirects and 300 <= response.status_code < 400 and response.status_code != 304:
            raise Redirected(f"{response.status_code}: redirects are not followed")
        return response


def _body(response: requests.Response, budget: _Budget) -> bytes:
    raw = response.raw
    pieces, size = [], 0
    decode = _decoder(response.headers.get("Content-Encoding", ""), budget.max_bytes)
    for piece in raw.stream(_PIECE, decode_content=False):
        made = decode(piece)
        pieces.append(made)
        size += len(made)
        if size > budget.max_bytes:
            raise TooMuch(f"more than {budget.max_bytes} bytes when decoded")
    made = decode(b"")
    if size + len(made) > budget.max_bytes:
        raise TooMuch(f"more than {budget.max_bytes} bytes when decoded")
    return b"".join([*pieces, made])


def _decoder(encodings: str, most: int) -> Any:
    """Return a function piece -> decoded piece, of little more than `most` bytes at once; call it with b"" at the
    end."""
    names = [name for name in (part.strip().lower() for part in encodings.split(",")) if name and name != "identity"]
    if not names:
        return lambda piece: piece
    if len(names) > 1 or names[0] not in _DECODERS:
        raise requests.exceptions.ContentDecodingError(f"encoding {encodings[:60]!r} was not requested")
    return _Inflate(_DECODERS[names[0]], most).decode


class _Inflate:
    """Decodes gzip (also of several members), zlib, and the raw deflate that some servers send instead."""

    def __init__(self, kind: int, most: int) -> None:
        self._kind, self._most = kind, most
        self._made: Any = None

    def decode(self, piece: bytes) -> bytes:
        if not piece:
            if self._made is not None and not self._made.eof:
                raise requests.exceptions.ContentDecodingError("cut off")
            return b""
        pieces, size = [], 0
        while piece:
            if self._made is None or self._made.eof:
                self._made = self._fresh(piece)
            try:
                made = self._made.decompress(piece, self._most + 1 - size)
            except zlib.error as error:
                raise requests.exceptions.ContentDecodingError(str(error)) from None
            pieces.append(made)
            size += len(made)
            if size > self._most:
                break
            piece = self._made.unused_data or self._made.unconsumed_tail
            if self._made.eof and not piece.strip(b"\0"):  # padding behind the last member
                break
        return b"".join(pieces)

    def _fresh(self, piece: bytes) -> Any:
        bare = piece[:1] != b"\x1f" and (len(piece) < 2 or piece[0] & 15 != 8 or (piece[0] << 8 | piece[1]) % 31)
        return zlib.decompressobj(-15 if bare else self._kind)

"""Access control, and the security headers of every answer.

Every program on this machine can reach the page, hence every web page open in a browser. A foreign page cannot read an
answer, but could cause load, or embed this page. So: only our own name in `Host` (foreign names that resolve to this
address are refused), only same-origin requests of a browser, no frames.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.health import OWN_HOST
from pipeline.core.log import get_logger

# Nothing is loaded from other origins; inline styles are the chart library's.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "market-data",
}
_OWN = ("same-origin", "none")  # none: typed, or a bookmark
_LONGEST = 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(status: int, text: str) -> web.Response:
    """Return a sentence as JSON, truncated."""
    body = orjson.dumps({"error": text[:_LONGEST].encode("utf-8", "replace").decode()})
    return web.Response(body=body, status=status, content_type="application/json")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers to every answer, including those for unknown paths."""
    response.headers.update(HEADERS)
    kept = request.path.startswith(("/static/", "/vendor/")) and response.status in (200, 304)
    response.headers["Cache-Control"] = "no-cache" if kept else "no-store"


def stranger(request: web.Request) -> str | None:
    """Return why a request is not the page's own; None if it is, or does not come from a browser."""
    # an absolute URL, as sent to proxies; its host would count, not the header's
    if not request.raw_path.startswith("/"):
        return "request a path, not a URL"
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not OWN_HOST.fullmatch(hosts[0]):
        return "open this page as 127.0.0.1 or localhost"
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in _OWN:
        link = request.path == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if not link or request.headers.get("Sec-Fetch-Dest") != "document":
            return "a page elsewhere may not ask this one"
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{hosts[0]}".lower():
        return "a page elsewhere may not ask this one"
    return None


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse foreign requests; return errors as JSON with a sentence, never a stack trace."""
    why = stranger(request)
    if why is not None:
        return refusal(403, why)
    protocol = request.protocol
    answering = getattr(protocol, "answering", None)
    if answering is None:  # an application without our gate, in tests
        return await _answered(request, handler)
    with answering():
        return await _answered(request, handler)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except WrongUse as error:
        return refusal(400, str(error))
    except PipelineError as error:
        return refusal(503, str(error))
    except web.HTTPException as error:
        if error.status in (301, 302, 304):
            raise
        return refusal(
            error.status, {404: "nothing is here", 405: "only GET is answered here"}.get(error.status, error.reason)
        )
    except Exception as error:
        get_logger().error(events.FAILED, path=request.path[:200], error=repr(error)[:500])
        return refusal(500, "internal error; the log says more")

"""Middleware of every REST response: counts, rate limits and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Middleware

from simulator.limits import TokenBucket
from simulator.market import SECOND_NS
from simulator.venues import trading
from simulator.world import World

HTML = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Policy:
    """A venue's REST side: its path prefix, its limit, what shares a limit, and how it refuses."""

    venue: str
    prefix: str
    refusal: Callable[[], web.Response]
    limit_key: Callable[[web.Request], str] = lambda request: "ip"
    rate: float = 0.0  # calls per second; 0: no limit
    burst: float = 1.0
    penalty_s: float = 0.0


class Gate:
    """The middleware. Requests outside the policies' prefixes pass untouched."""

    def __init__(self, world: World, policies: list[Policy]) -> None:
        self.world, self.policies = world, sorted(policies, key=lambda p: -len(p.prefix))
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def middleware(self) -> Middleware:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            policy = next((p for p in self.policies if request.path.startswith(p.prefix)), None)
            if policy is None or request.headers.get("Upgrade", "").lower() == "websocket":
                return await handler(request)
            return await self._answer(policy, request, handler)

        return gate

    def _limited(self, policy: Policy, request: web.Request) -> bool:
        if not policy.rate:
            return False
        key = (policy.venue, policy.limit_key(request))
        bucket = self._buckets.setdefault(key, TokenBucket(policy.rate, policy.burst, policy.penalty_s))
        return not bucket.take()

    async def _answer(self, policy: Policy, request: web.Request, handler: Handler) -> web.StreamResponse:
        venue, path, faults = policy.venue, request.path, self.world.faults
        resource = request.match_info.route.resource
        name = resource.canonical if resource is not None else "(unknown)"
        endpoint = self.world.stats.endpoint(venue, name)
        endpoint.count()
        response: web.StreamResponse
        if self._limited(policy, request):
            endpoint.refused += 1
            endpoint.violations += 1
            response = policy.refusal()
        else:
            if fault := faults.take(venue, "slow", endpoint=path):
                await asyncio.sleep(float(fault.options.get("stall", 30.0)))
            response = self._fault(policy, path) or self._body_fault(venue, path, await self._run(handler, request))
            if response.status in (429, 503):
                endpoint.refused += 1
        if venue in trading():
            response.headers["Date"] = formatdate(self.world.now_ns() / SECOND_NS, usegmt=True)
        endpoint.statuses[str(response.status)] = endpoint.statuses.get(str(response.status), 0) + 1
        return response

    @staticmethod
    async def _run(handler: Handler, request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.text, content_type=error.content_type)

    def _fault(self, policy: Policy, path: str) -> web.Response | None:
        faults, venue = self.world.faults, policy.venue
        if fault := faults.active(venue, "throttle", endpoint=path):
            rate = float(fault.options.get("rate", 1.0))
            fault.bucket = fault.bucket or TokenBucket(rate, max(1.0, rate))
            if not fault.bucket.take():
                return web.Response(status=503, text="Service Unavailable")
        if faults.take(venue, "rate-limit", endpoint=path):
            return policy.refusal()
        if faults.take(venue, "429", endpoint=path):
            return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": "1"})
        if fault := faults.take(venue, "5xx", endpoint=path):
            return web.Response(status=int(fault.options.get("status", 503)), text=HTML, content_type="text/html")
        if faults.take(venue, "404", endpoint=path):
            return web.Response(status=404, text="Not Found")
        if faults.take(venue, "venue-down", endpoint=path):
            return web.Response(status=503, text="Service Unavailable")
        if faults.take(venue, "html", endpoint=path):
            return web.Response(text=HTML, content_type="text/html")
        if faults.take(venue, "empty", endpoint=path):
            return web.Response(body=b"")
        return None

    def _body_fault(self, venue: str, path: str, response: web.StreamResponse) -> web.StreamResponse:
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        faults, body = self.world.faults, response.body
        if faults.take(venue, "truncated-body", endpoint=path):
            body = body[: len(body) * 2 // 3]
            return web.Response(body=body, status=response.status, content_type=response.content_type)
        if faults.take(venue, "wrong-length", endpoint=path):
            return _WrongLength(body=body, status=response.status, content_type=response.content_type)
        return response


class _WrongLength(web.Response):
    """Announces more bytes than it sends, then ends the connection."""

    async def write_eof(self, data: bytes = b"") -> None:
        if self._payload_writer is not None and isinstance(self.body, bytes):
            await self._payload_writer.write(self.body[: len(self.body) // 2])
        request = self._req
        if request is not None and request.transport is not None:
            request.transport.close()

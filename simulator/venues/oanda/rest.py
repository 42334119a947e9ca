"""OANDA's REST as far as it is asked: the accounts of a token."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from simulator.rest import Policy
from simulator.venues.oanda.listing import ACCOUNT, TOKEN

PREFIX = "/oanda/rest"


def refused(status: int, text: str) -> web.Response:
    return web.json_response({"errorMessage": text}, status=status)


def authorized(request: web.Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {TOKEN}"


def policy() -> Policy:
    """120 requests a second."""
    return Policy("oanda", PREFIX, lambda: refused(429, "Too many requests"), rate=120.0, burst=120.0)


class OandaRest:
    """The handlers."""

    def routes(self) -> Sequence[web.RouteDef]:
        return [web.get(f"{PREFIX}/v3/accounts", self.accounts)]

    async def accounts(self, request: web.Request) -> web.Response:
        if not authorized(request):
            return refused(401, "Insufficient authorization to perform request.")
        return web.json_response({"accounts": [{"id": ACCOUNT, "tags": []}]})

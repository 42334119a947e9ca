"""Ask what listens on a port of this machine, which may be somebody else's program: bounded in bytes and time, and past
any proxy that the environment names, which would be shown the token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from venues.rest.bounded import BoundedSession

MAX_BYTES = 8 << 20  # `/health` of a thousand products has some 300 kB


def ask(
    url: str,
    within_s: float,
    *,
    method: str = "GET",
    body: Any = None,
    token: str | None = None,
    certificate: Path | None = None,
) -> requests.Response:
    """Return the complete answer, whatever its status. `certificate`: the only one to be trusted. Raises
    `requests.RequestException`."""
    with BoundedSession(whole_s=within_s, max_bytes=MAX_BYTES, redirects=True) as session:
        session.trust_env = False
        session.verify = True if certificate is None else str(certificate)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return session.request(method, url, json=body, headers=headers, timeout=within_s)

"""The ES256 token that a Coinbase client may send: read, and verified when the public key is known."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

MAX_LIFE_S = 120


class TokenError(Exception):
    """The token is refused; the text is the venue's answer."""


def _part(text: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


class Tokens:
    """Checks tokens: well formed, within their 120 s, not used before, and signed by the key if one is given."""

    def __init__(self, public_key: str) -> None:
        """`public_key` is PEM text or the path of a PEM file; if empty, signatures are not verified."""
        self._key = Path(public_key).read_text() if public_key and "BEGIN" not in public_key else public_key
        self._seen: dict[str, float] = {}

    def check(self, token: str) -> None:
        """Raise `TokenError` unless the venue would accept this token."""
        now = time.time()
        try:
            header, claims = (_part(part) for part in token.split(".")[:2])
            not_before, expires = float(claims["nbf"]), float(claims["exp"])
            fine = header["alg"] == "ES256" and claims["iss"] == "cdp" and claims["sub"] == header["kid"]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise TokenError("authentication failure") from None
        in_time = not_before <= now + 5 and now < expires <= not_before + MAX_LIFE_S + 5
        if not fine or not in_time or token in self._seen:
            raise TokenError("authentication failure")
        if self._key:
            # Not needed to run a simulator without a key, so it is asked for here only.
            import jwt

            try:
                jwt.decode(token, self._key, algorithms=["ES256"], options={"verify_aud": False})
            except jwt.PyJWTError:
                raise TokenError("authentication failure") from None
        self._seen = {known: until for known, until in self._seen.items() if until > now} | {token: expires}

"""ES256 tokens for a Coinbase API key: valid for 120 s, a new one for each message.

Format: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-authentication.
"""

from __future__ import annotations

import secrets
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from pipeline.core.errors import WrongUse

LIFE_S = 120


class Tokens:
    """Creates tokens for one key. Raises `WrongUse` if the secret is not an EC private key on P-256."""

    def __init__(self, key: SecretStr, secret: SecretStr) -> None:
        self._name = key.get_secret_value()
        # In a .env file the PEM is one line, with its line ends written as \n.
        pem = secret.get_secret_value().replace("\\n", "\n").encode()
        try:
            loaded = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            loaded = None  # the error's text may quote the secret
        if not isinstance(loaded, EllipticCurvePrivateKey) or not isinstance(loaded.curve, SECP256R1):
            raise WrongUse(
                "COINBASE_API_SECRET is not an ECDSA (P-256) private key in PEM format; copy it as Coinbase issued it,"
                " with \\n for line ends, or leave key and secret empty: market data needs neither."
            )
        self._secret = loaded

    def new(self) -> str:
        """Return a token for one message."""
        now = int(time.time())
        claims = {"iss": "cdp", "sub": self._name, "nbf": now, "exp": now + LIFE_S}
        headers = {"kid": self._name, "nonce": secrets.token_hex(16)}
        return jwt.encode(claims, self._secret, algorithm="ES256", headers=headers)


def tokens_of(key: SecretStr | None, secret: SecretStr | None) -> Tokens | None:
    """Return None if no key is set. Raises `WrongUse` if only one of key and secret is."""
    if key is None and secret is None:
        return None
    if key is None or secret is None:
        missing = "COINBASE_API_KEY" if key is None else "COINBASE_API_SECRET"
        raise WrongUse(f"{missing} is missing; set both key and secret, or neither: market data needs none.")
    return Tokens(key, secret)

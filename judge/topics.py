"""What an operator, or a slip of the hand, does to topics: terminate, delete, unload, have messages refused."""

from __future__ import annotations

from typing import Any

import requests

ANSWER_WITHIN_S = 15


class Topics:
    """Calls of the admin interface about one tenant's topics. Raises `OSError` when the broker refuses or is away.

    Topics are named without tenant: `trades/kraken.btc-usd`.
    """

    def __init__(self, admin_url: str, tenant: str, headers: dict[str, str] | None = None) -> None:
        self._base, self._headers = f"{admin_url}/admin/v2/persistent/{tenant}", headers or {}

    def _call(self, method: str, path: str, body: Any = None) -> None:
        answer = requests.request(  # its errors are OSErrors, too
            method, f"{self._base}/{path}", json=body, timeout=ANSWER_WITHIN_S, headers=self._headers
        )
        if answer.status_code >= 400 and not (method == "DELETE" and answer.status_code == 404):
            raise OSError(f"{method} {path}: {answer.status_code} {answer.text[:120]}")

    def terminate(self, topic: str) -> None:
        """Nobody can publish onto it any more, for good."""
        self._call("POST", f"{topic}/terminate")

    def delete(self, topic: str) -> None:
        """With everything in it, read or not, under the feet of whoever uses it."""
        self._call("DELETE", f"{topic}?force=true")

    def unload(self, topic: str) -> None:
        """Everybody has to connect anew, as when a cluster moves it."""
        self._call("PUT", f"{topic}/unload")

    def refuse(self, topic: str) -> None:
        """The broker takes no message of more than a byte, until `accept`. It cuts the connection at each try, on which
        other topics' messages travel as well, and the client tries again ten times a second."""
        self._call("POST", f"{topic}/maxMessageSize", 1)

    def accept(self, topic: str) -> None:
        self._call("DELETE", f"{topic}/maxMessageSize")

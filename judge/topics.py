"""What an operator may do to topics, also by mistake: terminate, delete, unload, refuse messages."""

from __future__ import annotations

from typing import Any

from pipeline.services.broker import Broker

ANSWER_WITHIN_S = 15


class Topics:
    """Calls of the admin interface about one tenant's topics. Raises `OSError` if the broker refuses or is unreachable.

    Topics are named without tenant: `trades/kraken.btc-usd`.
    """

    def __init__(self, broker: Broker, tenant: str) -> None:
        self._broker, self._tenant = broker, tenant

    def _call(self, method: str, path: str, body: Any = None) -> None:
        topic = f"persistent/{self._tenant}/{path}"
        answer = self._broker.ask(topic, ANSWER_WITHIN_S, method=method, body=body)  # its errors are OSErrors too
        if answer.status_code >= 400 and not (method == "DELETE" and answer.status_code == 404):
            raise OSError(f"{method} {path}: {answer.status_code} {answer.text[:120]}")

    def terminate(self, topic: str) -> None:
        """Terminate a topic: publishing to it fails from then on."""
        self._call("POST", f"{topic}/terminate")

    def delete(self, topic: str) -> None:
        """Delete a topic with all its messages, even while in use."""
        self._call("DELETE", f"{topic}?force=true")

    def unload(self, topic: str) -> None:
        """Unload a topic: clients must reconnect, as when a cluster moves it."""
        self._call("PUT", f"{topic}/unload")

    def refuse(self, topic: str) -> None:
        """The broker takes no message of more than a byte, until `accept`. It cuts the connection at each try, on which
        other topics' messages travel as well, and the client tries again ten times a second."""
        self._call("POST", f"{topic}/maxMessageSize", 1)

    def accept(self, topic: str) -> None:
        self._call("DELETE", f"{topic}/maxMessageSize")

"""Client for the parts of Pulsar's admin REST interface used here (the Python client has none)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from pipeline.broker.auth import authorities_of, shown, token_of
from pipeline.core.admission import let_in, shut_out, taken
from pipeline.core.errors import PipelineError, Refused, Unavailable, WrongAnswer, WrongUse
from pipeline.core.settings import PulsarSettings

_UNTRUSTED = re.compile(r"certificate verify failed: ([^(\]]*[^(\]. ])")


@dataclass(frozen=True)
class Backlog:
    """What one subscription has not acknowledged of a topic, over all its partitions."""

    messages: int
    bytes: int
    readers: int
    """Connected consumers."""
    acknowledged_ms: int
    """When everything up to a later message was last acknowledged, by the broker's clock (Unix time); 0: not since it
    loaded the topic."""


class Admin:
    """Calls `/admin/v2`.

    All methods raise `Unavailable` if the broker does not answer, `Refused` if it refuses, and `WrongUse` if token or
    certificate are not accepted and never were (see `pipeline.core.admission`).
    """

    def __init__(self, settings: PulsarSettings) -> None:
        self._settings = settings
        self._base = f"{settings.admin}/admin/v2"
        self._shown = shown("admin", settings)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = authorities_of(settings)

    def _call(self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = ()) -> Any:
        token = token_of(self._settings)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            answer = self._session.request(method, f"{self._base}/{path}", json=body, timeout=15, headers=headers)
        except requests.exceptions.SSLError as error:
            raise self._untrusted(str(error)) from None
        except requests.RequestException as error:
            raise Unavailable(f"Pulsar admin at {self._base} does not answer: {type(error).__name__}") from None
        except OSError as error:  # the CA file
            if self._settings.private:
                raise Unavailable("the broker has not been started yet (scripts/start)") from None
            raise shut_out(self._shown, f"PULSAR_TLS_CA_FILE cannot be read: {error}.") from None
        if answer.status_code in accept:
            return None
        # A known client without the permission gets a 401 too, but as JSON.
        if answer.status_code == 401 and not answer.content.startswith(b"{"):
            text = (
                "requires a token; set PULSAR_TOKEN_FILE."
                if token is None
                else "does not accept the token; check PULSAR_TOKEN."
            )
            raise shut_out(self._shown, f"the broker at {self._settings.admin} {text}")
        if answer.status_code >= 500:
            raise WrongAnswer(f"Pulsar admin {path}: {answer.status_code} {answer.text[:200]}")
        if answer.status_code >= 400:
            raise Refused(f"Pulsar admin {path}: {answer.status_code} {answer.text[:200]}")
        let_in(self._shown)
        try:
            return answer.json() if answer.content[:1] in (b"{", b"[", b'"') else answer.text
        except ValueError:
            raise WrongAnswer(f"Pulsar admin {path}: truncated after {len(answer.content)} bytes") from None

    def _untrusted(self, text: str) -> PipelineError:
        if "NO_CERTIFICATE" in text:
            return shut_out(self._shown, "PULSAR_TLS_CA_FILE: contains no certificate in PEM format.")
        found = _UNTRUSTED.search(text)
        # a broken connection, or a certificate that its owner may renew: retry
        if found is None or "expired" in found[1]:
            return Unavailable(f"no TLS connection to {self._settings.admin}: {found[1] if found else text[:200]}")
        if self._settings.private:
            return taken(f"what listens on PULSAR_ADMIN_PORT is not our broker: {found[1]}")
        return shut_out(
            self._shown,
            f"the certificate of {self._settings.admin} is not trusted: {found[1]};"
            " check PULSAR_TLS_CA_FILE and the host in PULSAR_URL and PULSAR_ADMIN_URL.",
        )

    def healthy(self) -> bool:
        """Return whether the broker is healthy. Without permission for the health check, any answer counts."""
        try:
            return bool(self._call("GET", "brokers/health") == "ok")
        except Refused:
            return True

    def need_ready(self) -> None:
        """Raise `Unavailable` until the broker has started. Without permission for this check, or with a version that
        does not have it, any answer counts."""
        with suppress(Refused):
            self._call("GET", "brokers/ready", accept=(404,))

    def clusters(self) -> list[str]:
        return list(self._call("GET", "clusters"))

    def create_tenant(self, tenant: str) -> None:
        """Create the tenant if it does not exist. Requires a superuser role of the broker."""
        if self._call("GET", f"namespaces/{tenant}", accept=(404,)) is not None:
            return
        try:
            clusters = [c for c in self.clusters() if c != "global"]
            if not clusters:  # a standalone broker creates its own a moment after it has started
                raise Unavailable("the broker has no cluster yet")
            self._call("PUT", f"tenants/{tenant}", {"adminRoles": [], "allowedClusters": clusters}, accept=(409,))
        except Refused as error:
            raise WrongUse(
                f"tenant {tenant} does not exist and cannot be created; check PULSAR_TENANT: {error}"
            ) from None

    def namespaces(self, tenant: str) -> list[str]:
        """Return namespace names without the tenant."""
        return [name.split("/", 1)[1] for name in self._call("GET", f"namespaces/{tenant}")]

    def create_namespace(self, namespace: str, policies: Mapping[str, Any] | None = None) -> bool:
        """Create the namespace with these policies, by Pulsar's names; returns False if it exists already."""
        return self._call("PUT", f"namespaces/{namespace}", policies, accept=(409,)) is not None

    def policies(self, namespace: str) -> dict[str, Any] | None:
        """Return all policies of a namespace, by Pulsar's names; None if there is no such namespace."""
        found: dict[str, Any] | None = self._call("GET", f"namespaces/{namespace}", accept=(404,))
        return found

    def schema(self, topic: str) -> str | None:
        """Return the text of a topic's newest schema, or None."""
        path = _path(topic).split("/", 1)[1]
        found = self._call("GET", f"schemas/{path}/schema", accept=(404,))
        return None if found is None else str(found["data"])

    def set_retention(self, namespace: str, minutes: int, mb: int) -> None:
        body = {"retentionTimeInMinutes": minutes, "retentionSizeInMB": mb}
        self._call("POST", f"namespaces/{namespace}/retention", body)

    def set_deduplication(self, namespace: str, on: bool = True) -> None:
        self._call("POST", f"namespaces/{namespace}/deduplication", on)

    def set_schema_policy(self, namespace: str) -> None:
        self._call("PUT", f"namespaces/{namespace}/schemaCompatibilityStrategy", "FULL_TRANSITIVE")
        self._call("POST", f"namespaces/{namespace}/schemaValidationEnforced", True)

    def topics(self, namespace: str) -> list[str]:
        """Return full names of the namespace's topics; a partitioned one once, without partition."""
        plain = [t for t in self._call("GET", f"persistent/{namespace}") if "-partition-" not in t]
        return sorted({*plain, *self._call("GET", f"persistent/{namespace}/partitioned")})

    def parts(self, namespace: str) -> list[str]:
        """Return full names of what a consumer reads: non-partitioned topics, and partitions."""
        whole = set(self._call("GET", f"persistent/{namespace}/partitioned"))
        return sorted(set(self._call("GET", f"persistent/{namespace}")) - whole)

    def internal_stats(self, topic: str) -> dict[str, Any]:
        """Return ledgers and cursors of a topic, by Pulsar's names."""
        found: dict[str, Any] = self._call("GET", f"{_path(topic)}/internalStats")
        return found

    def create_topic(self, topic: str, partitions: int = 0) -> bool:
        """Create `persistent://…`; returns True if it is new."""
        path = _path(topic)
        if topic in self.topics("/".join(path.split("/")[1:3])):
            return False
        if partitions:
            self._call("PUT", f"{path}/partitions", partitions, accept=(409,))
        else:
            self._call("PUT", path, accept=(409,))
        return True

    def backlog(self, topic: str, subscription: str) -> Backlog:
        """Return what `subscription` has not acknowledged: everything, if the topic has no such subscription."""
        path = _path(topic)
        stats = self._call("GET", f"{path}/stats?subscriptionBacklogSize=true", accept=(404,))
        if stats is None:
            stats = self._call("GET", f"{path}/partitioned-stats?subscriptionBacklogSize=true", accept=(404,)) or {}
        one = stats.get("subscriptions", {}).get(subscription)
        if one is None:
            return Backlog(int(stats.get("msgInCounter", 0)), int(stats.get("storageSize", 0)), 0, 0)
        return Backlog(
            int(one["msgBacklog"]),
            max(0, int(one.get("backlogSize", 0))),
            len(one.get("consumers", ())),
            int(one.get("lastMarkDeleteAdvancedTimestamp", 0)),
        )

    def ledgers(self, topic: str) -> list[tuple[int, int]]:
        """Return (id, entries) of a topic's ledgers, oldest first; empty if there is no such topic."""
        stats = self._call("GET", f"{_path(topic)}/internalStats", accept=(404,)) or {}
        found = [(int(one["ledgerId"]), int(one["entries"])) for one in stats.get("ledgers", [])]
        if found:  # the open ledger is counted separately
            found[-1] = found[-1][0], int(stats.get("currentLedgerEntries", 0))
        return found


def _path(topic: str) -> str:
    return quote(topic.replace("://", "/"), safe="/")

"""Create missing tenant, namespaces with their policies, and control topics.

Any process may call it at any time, also concurrently. On a cluster where it may not create something, it uses what
exists and reports what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.broker.admin import Admin
from pipeline.broker.topics import GAPS_TOPIC, HEADS_TOPIC, NAMESPACES, Namespace, full_name
from pipeline.core import events
from pipeline.core.errors import Refused, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PulsarSettings


def broker(settings: PulsarSettings) -> None:
    """Create tenant, namespaces, policies and control topics. Raises `Unavailable` while the broker is not ready."""
    admin = Admin(settings)
    admin.need_ready()
    tenant = settings.tenant
    refused: dict[str, str] = {}

    def allowed(what: str, call: Callable[[], object]) -> object:
        try:
            return call()
        except Refused as error:
            refused[what] = str(error)
            return None

    allowed(f"tenant {tenant}", partial(admin.create_tenant, tenant))
    for space in NAMESPACES:
        name = f"{tenant}/{space.name}"
        # Read before writing: every program runs this at its start.
        found: Mapping[str, Any] | None = {}
        with suppress(Refused):
            found = admin.policies(name)
        if found is None and allowed(f"namespace {name}", partial(admin.create_namespace, name, policies(space))):
            found = policies(space)
        for wrong in wrong_policies(space, found or {}):
            allowed(wrong.what, partial(wrong.mend, admin, name))
    for local in (GAPS_TOPIC, HEADS_TOPIC):
        allowed(f"topic control/{local}", partial(admin.create_topic, full_name(tenant, "control", local)))
    if refused:  # a single line: a role that may only produce and consume would log 25 at each start
        first = next(iter(refused.values()))
        get_logger().warning(events.POLICY_MISSING, what=list(refused), error=first)


def policies(space: Namespace) -> dict[str, Any]:
    """Return the policies that a namespace has, by Pulsar's names."""
    return {
        "retention_policies": {
            "retentionTimeInMinutes": space.retention_minutes,
            "retentionSizeInMB": space.retention_mb,
        },
        "deduplicationEnabled": True,
        "schema_compatibility_strategy": "FULL_TRANSITIVE",
        "schema_validation_enforced": True,
    }


@dataclass(frozen=True)
class WrongPolicy:
    """A wrong policy of a namespace, and the call that corrects it."""

    what: str
    mend: Callable[[Admin, str], None]


def wrong_policies(space: Namespace, found: Mapping[str, Any]) -> Iterator[WrongPolicy]:
    """Yield the policies that differ from the result of `Admin.policies`."""
    wanted, minutes, mb = policies(space), space.retention_minutes, space.retention_mb
    retention = found.get("retention_policies") or {}
    if any(retention.get(name) != value for name, value in wanted["retention_policies"].items()):
        what = f"retention of {space.name} is {retention.get('retentionTimeInMinutes', 0)} minutes"
        yield WrongPolicy(what, lambda admin, name: admin.set_retention(name, minutes, mb))
    if not found.get("deduplicationEnabled"):
        yield WrongPolicy(f"{space.name} has no deduplication", Admin.set_deduplication)
    if any(found.get(name) != wanted[name] for name in ("schema_compatibility_strategy", "schema_validation_enforced")):
        yield WrongPolicy(f"{space.name} does not enforce schemas", Admin.set_schema_policy)


def broker_when_ready(settings: PulsarSettings, stop: threading.Event) -> None:
    """Call `broker`, waiting until the broker is ready; returns early when stopped."""
    keep_trying("broker", partial(broker, settings), stop, retry_on=(Unavailable,))

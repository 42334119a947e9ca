"""Watch a writer's topics through the broker's statistics: their backlog, which are stuck, and which nobody reads.

The client's pattern subscription records a new topic as its own before subscribing to it, and never retries if that
fails (`MultiTopicsConsumerImpl::subscribeTopicPartitions`, pulsar-client 3.13): everything published to it would wait
for the writer's next start, without an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.subscription import SUBSCRIPTION
from pipeline.broker.admin import Admin, Backlog
from pipeline.core.errors import Refused, WrongAnswer

STUCK_AFTER_S = 60.0
# Consecutive polls without a reader, after which a topic counts as unread. A new topic has none until the client finds
# it, within a second.
UNREAD_POLLS = 2
MOST_NAMED = 3


@dataclass
class _Topic:
    """What the last poll found, and since when (monotonic) nothing of its backlog has been acknowledged."""

    backlog: Backlog
    since: float
    unread_polls: int = 0


@dataclass
class TopicWatch:
    """The topics of one namespace of a tenant. `poll` is called by one thread, the other methods by any."""

    admin: Admin
    tenant: str
    namespace: str
    clock: Callable[[], float] = time.monotonic
    _topics: dict[str, _Topic] = field(default_factory=dict)
    _unanswered: dict[str, str] = field(default_factory=dict)
    """Topics whose statistics the broker did not give at the last poll, with its answer."""

    def poll(self) -> int:
        """Request the statistics of each topic; returns the number of unacknowledged messages. Raises `Unavailable`."""
        try:
            names = self.admin.parts(f"{self.tenant}/{self.namespace}")
        except Refused:  # no such namespace: no topics
            names = []
        seen: dict[str, _Topic] = {}
        unanswered: dict[str, str] = {}
        for name in names:
            try:
                seen[name] = self._updated(self._topics.get(name), self.admin.backlog(name, SUBSCRIPTION))
            except Refused:  # deleted meanwhile
                continue
            except WrongAnswer as error:  # about this topic only
                unanswered[name] = str(error)
                if (before := self._topics.get(name)) is not None:  # kept for the next answer
                    seen[name] = before
        self._topics, self._unanswered = seen, unanswered
        return sum(one.backlog.messages for one in seen.values())

    def _updated(self, before: _Topic | None, found: Backlog) -> _Topic:
        still = before is not None and before.backlog.messages and found.messages
        moved = before is None or before.backlog.acknowledged_ms != found.acknowledged_ms
        since = self.clock() if before is None or moved or not still else before.since
        unread = 0 if found.readers else 1 + (before.unread_polls if before else 0)
        return _Topic(found, since, unread)

    def _known(self) -> dict[str, _Topic]:
        """Return the topics that the last poll got statistics of: nothing is claimed about the others."""
        unanswered = self._unanswered
        return {name: one for name, one in self._topics.items() if name not in unanswered}

    def unread(self) -> list[str]:
        """Return the topics that no writer reads."""
        return [name for name, one in self._known().items() if one.unread_polls >= UNREAD_POLLS]

    def lost(self) -> list[str]:
        """Return the unread topics to subscribe to again: not at each poll, because it takes a while."""
        return [name for name in self.unread() if self._topics[name].unread_polls % UNREAD_POLLS == 0]

    def why(self) -> list[str]:
        """Return the problems, as sentences for `/health`."""
        now, found = self.clock(), []
        if unanswered := self._unanswered:
            names, first = _joined_names(list(unanswered)), next(iter(unanswered.values()))
            found.append(f"{self.namespace}: the broker does not say how much of {names} waits: {first}")
        unread = self.unread()
        if unread:
            found.append(f"{self.namespace}: nothing reads {_joined_names(unread)}")
        stuck = [
            name
            for name, one in self._known().items()
            if one.backlog.messages and now - one.since > STUCK_AFTER_S and name not in unread
        ]
        if stuck:
            found.append(f"{self.namespace}: nothing of {_joined_names(stuck)} was stored for a minute")
        return found


def _joined_names(topics: list[str]) -> str:
    """`kraken.btc-usd, kraken.eth-usd and 3 more`."""
    names = ", ".join(name.rsplit("/", 1)[-1] for name in topics[:MOST_NAMED])
    return names if len(topics) <= MOST_NAMED else f"{names} and {len(topics) - MOST_NAMED} more"

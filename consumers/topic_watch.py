"""What the broker says of a writer's topics: how much waits, what does not move, and what nobody reads.

The client's pattern subscription notes a new topic as its own before it is subscribed, and never tries again if that
fails (`MultiTopicsConsumerImpl::subscribeTopicPartitions`, pulsar-client 3.13): everything published to it would wait
until the writer's next start, without an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.subscription import SUBSCRIPTION
from pipeline.broker.admin import Admin, Backlog
from pipeline.core.errors import Refused, WrongAnswer

STUCK_AFTER_S = 60.0
# Looks in a row at which a topic had no reader. A new one has none until the client finds it, within a second.
UNREAD_LOOKS = 2
MOST_NAMED = 3


@dataclass
class _Topic:
    """What the last look found, and since when (monotonic) nothing of it was acknowledged although something waits."""

    backlog: Backlog
    since: float
    unread_looks: int = 0


@dataclass
class TopicWatch:
    """The topics of one namespace of a tenant. `look` is called by one thread, the rest by any."""

    admin: Admin
    tenant: str
    namespace: str
    clock: Callable[[], float] = time.monotonic
    _topics: dict[str, _Topic] = field(default_factory=dict)
    _silent: dict[str, str] = field(default_factory=dict)
    """Topics whose statistics the broker could not give at the last look, with its answer."""

    def look(self) -> int:
        """Ask about each topic; returns the messages known to be not acknowledged. Raises `Unavailable`."""
        try:
            names = self.admin.parts(f"{self.tenant}/{self.namespace}")
        except Refused:  # no such namespace: no topics
            names = []
        seen: dict[str, _Topic] = {}
        silent: dict[str, str] = {}
        for name in names:
            try:
                seen[name] = self._seen(self._topics.get(name), self.admin.backlog(name, SUBSCRIPTION))
            except Refused:  # deleted meanwhile
                continue
            except WrongAnswer as error:  # of this topic only: the others are still to be looked after
                silent[name] = str(error)
                if (before := self._topics.get(name)) is not None:  # remembered for the next answer
                    seen[name] = before
        self._topics, self._silent = seen, silent
        return sum(one.backlog.messages for one in seen.values())

    def _seen(self, before: _Topic | None, found: Backlog) -> _Topic:
        still = before is not None and before.backlog.messages and found.messages
        moved = before is None or before.backlog.acknowledged_ms != found.acknowledged_ms
        since = self.clock() if before is None or moved or not still else before.since
        unread = 0 if found.readers else 1 + (before.unread_looks if before else 0)
        return _Topic(found, since, unread)

    def _known(self) -> dict[str, _Topic]:
        """Return the topics of which the last look found something: of the others nothing is claimed."""
        silent = self._silent
        return {name: one for name, one in self._topics.items() if name not in silent}

    def unread(self) -> list[str]:
        """Return the topics that no writer reads."""
        return [name for name, one in self._known().items() if one.unread_looks >= UNREAD_LOOKS]

    def lost(self) -> list[str]:
        """Return those of them that are to be subscribed to again: not at each look, because it takes a while."""
        return [name for name in self.unread() if self._topics[name].unread_looks % UNREAD_LOOKS == 0]

    def why(self) -> list[str]:
        """Return the problems, as sentences for `/health`."""
        now, found = self.clock(), []
        if silent := self._silent:
            first = next(iter(silent.values()))
            found.append(f"{self.namespace}: the broker does not say how much of {_named(list(silent))} waits: {first}")
        unread = self.unread()
        if unread:
            found.append(f"{self.namespace}: nothing reads {_named(unread)}")
        stuck = [
            name
            for name, one in self._known().items()
            if one.backlog.messages and now - one.since > STUCK_AFTER_S and name not in unread
        ]
        if stuck:
            found.append(f"{self.namespace}: nothing of {_named(stuck)} was stored for a minute")
        return found


def _named(topics: list[str]) -> str:
    """`kraken.btc-usd, kraken.eth-usd and 3 more`."""
    names = ", ".join(name.rsplit("/", 1)[-1] for name in topics[:MOST_NAMED])
    return names if len(topics) <= MOST_NAMED else f"{names} and {len(topics) - MOST_NAMED} more"

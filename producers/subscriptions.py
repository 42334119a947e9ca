"""What a connection asked of its venue, and what the venue acknowledged or refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import structlog

from pipeline import events, metrics
from pipeline.errors import Unavailable
from producers.frames import Acknowledged, SubscriptionRefused
from producers.venue import Venue

ACKNOWLEDGE_S = 10.0  # venues answer in well under a second
ASK_REFUSED_AGAIN_S = 600.0


class Subscriptions:
    """Those of one connection after the other. `refused`: products with the venue's reason, over all of them.

    `say` is told when the state changes: "subscribed", "unacknowledged". Times are monotonic seconds.
    """

    def __init__(self, venue: Venue, say: Callable[..., None], log: structlog.stdlib.BoundLogger) -> None:
        self._venue, self._say, self._log = venue, say, log
        self.refused: dict[str, str] = {}
        self._to_send: deque[Callable[[], list[str]]] = deque()
        self._texts: deque[str] = deque()
        self._unacknowledged: set[tuple[str, str]] = set()
        self._acknowledge_by = self._ask_refused_at = 0.0
        self._asked_twice = False

    def opened(self, now: float) -> None:
        """A new connection, on which nothing is subscribed yet: ask for everything."""
        self._to_send.clear()
        self._texts.clear()
        self._unacknowledged.clear()
        self._asked_twice = False
        self._ask(self._venue.products, now)

    def _ask(self, products: Iterable[str], now: float) -> None:
        wanted = tuple(products)
        self._unacknowledged |= {(channel, product) for product in wanted for channel in self._venue.channels}
        self._acknowledge_by = now + ACKNOWLEDGE_S
        self._ask_refused_at = now + ASK_REFUSED_AGAIN_S
        self._to_send.append(partial(self._venue.subscribe, wanted))

    def again(self, product: str, now: float) -> None:
        """End the product's subscription and ask for it anew."""
        self._to_send.append(partial(self._venue.unsubscribe, (product,)))
        self._ask((product,), now)

    def texts(self, seconds: float) -> Iterator[str]:
        """What is to be sent, as much of it as the venue allows in `seconds`, but at least one text. Made when it is
        taken: a token in it must be fresh."""
        for _ in range(max(1, int(self._venue.messages_per_s * seconds))):
            if not self._texts and self._to_send:
                self._texts.extend(self._to_send.popleft()())
            if self._texts:
                yield self._texts.popleft()

    def acknowledged(self, said: Acknowledged) -> None:
        self.refused.pop(said.product_id, None)
        if (said.channel, said.product_id) not in self._unacknowledged:
            return
        self._unacknowledged.discard((said.channel, said.product_id))
        if not self._unacknowledged:
            self._complete()

    def was_refused(self, said: SubscriptionRefused) -> None:
        """The others run on; the product is asked for again every ten minutes."""
        if said.product_id is None:
            self._log.error(events.SYMBOL_REFUSED, product=None, channel=said.channel, reason=said.reason)
            return
        if self.refused.get(said.product_id) != said.reason:
            self._log.error(
                events.SYMBOL_REFUSED, product=said.product_id, reason=said.reason,
                text=f"{self._venue.name} refuses {said.product_id}; the others run; correct the product ids",
            )  # fmt: skip
        self.refused[said.product_id] = said.reason
        waiting = bool(self._unacknowledged)
        self._unacknowledged = {key for key in self._unacknowledged if key[1] != said.product_id}
        if waiting and not self._unacknowledged:
            self._complete()

    def _complete(self) -> None:
        self._asked_twice = False
        running = [product for product in self._venue.products if product not in self.refused]
        metrics.CONNECTION_UP.labels(self._venue.name).set(bool(running))
        self._say("subscribed", products=running, refused=sorted(self.refused))

    def look(self, now: float) -> None:
        """Ask once more for what was not acknowledged in time; `Unavailable` when that did not help either."""
        if self._unacknowledged and now >= self._acknowledge_by:
            products = sorted({product for _, product in self._unacknowledged})
            if self._asked_twice:
                raise Unavailable(f"no acknowledgement of {', '.join(products)}")
            self._asked_twice = True
            self._say("unacknowledged", level="warning", products=products)
            for product in products:  # one by one: a venue may refuse a whole message for one product
                self._ask((product,), now)
        if self.refused and now >= self._ask_refused_at:
            self._ask(tuple(self.refused), now)

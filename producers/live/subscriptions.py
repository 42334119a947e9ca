"""Subscriptions of a connection and the venue's answers, by channel and product.

A product that is refused, ignored or answered under another name is set aside, reported, and requested again from time
to time, without affecting the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from pipeline.core import events, metrics
from pipeline.core.errors import Unavailable
from pipeline.core.saying import Sayer
from producers.live.renewals import Key, Renewals
from venues.events import Acknowledged, Resubscribe, SubscriptionRefused
from venues.venue import Venue

ACKNOWLEDGE_S = 10.0  # from sending; venues answer in well under a second
REFUSED_AGAIN_S = 600.0
UNANSWERED_AGAIN_S, UNANSWERED_CAP_S = 60.0, 600.0
# A connection on which the venue answers no request at all is given up; the time doubles with each.
NOTHING_S, NOTHING_CAP_S = 25.0, 600.0


@dataclass
class _Ask:
    """A message to send: subscribe a channel for some products, or unsubscribe it."""

    channel: str
    products: tuple[str, ...]
    end: bool = False


@dataclass
class _Open:
    """A subscription that is not acknowledged. `due`: when it needs the next action."""

    due: float | None = None  # None: not sent yet
    asked: int = 0
    pause_s: float = UNANSWERED_AGAIN_S
    waiting: bool = True  # for an answer; False: set aside until `due`


@dataclass(frozen=True)
class Problem:
    """Why a channel of a product is not subscribed. `state`: refused, unanswered."""

    state: str
    reason: str


@dataclass
class _Spoken:
    """Messages of the venue that name none of the requested products."""

    complaint: str | None = None
    others: dict[str, str] = field(default_factory=dict)  # requested product -> the name the venue probably uses for it


class Subscriptions:
    """The subscriptions of the current connection; `problems` outlives a connection. Times are monotonic seconds.

    `say` is called when the state changes: "subscribed", "unacknowledged". Not thread-safe.
    """

    def __init__(self, venue: Venue, say: Callable[..., None], log: structlog.typing.FilteringBoundLogger) -> None:
        self._venue, self._say, self._log = venue, say, log
        self.problems: dict[Key, Problem] = {}
        self._keys = {(channel, product) for product in venue.products for channel in venue.channels}
        self._open: dict[Key, _Open] = {}
        self._to_send: deque[_Ask] = deque()
        self._requests: dict[int, _Ask] = {}
        self._number = 0
        self._renewals = Renewals()
        self._sayer = Sayer()
        self._spoken = _Spoken()
        self._without_data = set(venue.products)
        self._opened_at = 0.0
        self._complete = False
        self._nothing_s = NOTHING_S

    # -- asking ------------------------------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """Subscribe everything on a new connection."""
        self._to_send.clear()
        self._requests.clear()
        self._renewals.forget()
        self._open = {key: _Open() for key in self._keys}
        self._spoken.complaint = None
        self._without_data = set(self._venue.products)
        self._opened_at, self._complete = now, False
        for channel in self._venue.channels:
            good = [product for product in self._venue.products if (channel, product) not in self.problems]
            for start in range(0, len(good), self._venue.products_per_text):
                self._queue(channel, good[start : start + self._venue.products_per_text])
        for channel, product in self.problems:  # separately: a venue may refuse a whole message because of one product
            self._queue(channel, (product,))

    def _queue(self, channel: str, products: Iterable[str]) -> None:
        self._to_send.append(_Ask(channel, tuple(products)))

    def again(self, channel: str, product: str) -> None:
        """Unsubscribe and resubscribe one channel of one product."""
        self._open[channel, product] = _Open()
        self._to_send.append(_Ask(channel, (product,), end=True))
        self._queue(channel, (product,))

    def anew(self, said: Resubscribe, now: float) -> bool:
        """What came of it cannot be continued. Returns False where it is being asked for already, or nobody did."""
        key = (said.channel, said.product_id)
        return key in self._keys and key not in self._open and self._renewals.ask(key, now)

    def texts(self, seconds: float, now: float) -> Iterator[str]:
        """Yield the messages to send, as many as the venue allows in `seconds`, but at least one. They are made when
        they are taken: a token must be fresh, and the deadline for the answer starts with sending."""
        for _ in range(max(1, int(self._venue.messages_per_s * seconds))):
            if not self._to_send:
                return
            ask = self._to_send.popleft()
            self._number += 1
            if ask.end:
                yield self._venue.unsubscribe(ask.channel, ask.products, self._number)
                continue
            self._requests[self._number] = ask
            for product in ask.products:
                one = self._open.get((ask.channel, product))
                if one is not None:
                    one.due, one.waiting = now + ACKNOWLEDGE_S, True
                    one.asked += 1
            yield self._venue.subscribe(ask.channel, ask.products, self._number)

    # -- answers -----------------------------------------------------------------------------------------------------

    def acknowledged(self, said: Acknowledged) -> bool:
        """Handle an acknowledgement; returns False for a product that was not requested."""
        ask = self._requests.get(said.request or 0)  # None also for the end of a subscription
        channel = ask.channel if said.channel is None and ask else said.channel
        products = (ask.products if ask else ()) if said.product_id is None else (said.product_id,)
        for product in products:
            if product not in self._venue.products:
                return False
            for of in self._venue.channels:
                if channel is None or of == channel:
                    self._confirm((of, product))
        return True

    def data(self, channel: str, product: str) -> None:
        """Handle data, which count as an acknowledgement. Called for every frame."""
        if product in self._without_data:
            self._without_data.discard(product)
            self._spoken.others.pop(product, None)
        if self._open and (channel, product) in self._open:
            self._confirm((channel, product))

    def _confirm(self, key: Key) -> None:
        if self._open.pop(key, None) is None:
            return
        self._nothing_s = NOTHING_S
        metrics.CONNECTION_UP.labels(self._venue.name).set(1)
        if self.problems.pop(key, None) is not None:
            self._log.info(events.SYMBOL_ANSWERED, product=key[1], channel=key[0])
            self._measure(key[1])
        self._check_complete()

    def was_refused(self, said: SubscriptionRefused, now: float) -> None:
        """Handle a refusal: set the product aside and request it again every ten minutes."""
        keys = self._meant(said)
        if not keys:  # unclear which one: after the timeout each is requested on its own
            self._spoken.complaint = said.reason
            if self._sayer.may_say("refused"):
                about = {"product": said.product_id, "channel": said.channel, "reason": said.reason}
                self._log.error(events.SYMBOL_REFUSED, **about)
            return
        for key in keys:
            one = self._open[key]
            one.due, one.waiting = now + REFUSED_AGAIN_S, False
            self._set_aside(key, Problem("refused", said.reason))
        self._check_complete()

    def _meant(self, said: SubscriptionRefused) -> list[Key]:
        """Return the subscriptions that a refusal refers to, among those waiting for an answer."""
        waiting = [key for key, one in self._open.items() if one.waiting and one.due is not None]
        ask = self._requests.get(said.request or 0)
        if ask is not None:
            waiting = [key for key in waiting if key[0] == ask.channel and key[1] in ask.products]
        if said.channel is not None:
            waiting = [key for key in waiting if key[0] == said.channel]
        named = [key for key in waiting if key[1] == said.product_id]
        if named or said.product_id in self._venue.products:
            return named
        # It names no product, or an unknown spelling: unambiguous only if a single product is waiting.
        return waiting if len({product for _, product in waiting}) == 1 else []

    def complaint(self, text: str) -> None:
        """Handle an error message of the venue: possibly the reason why an answer is missing."""
        if self._open:
            self._spoken.complaint = text

    def stranger(self, product: str) -> str | None:
        """Handle a product that was not requested; returns the requested one that it probably stands for."""
        base = product.split("-", 1)[0]
        for asked in self._venue.products:
            if asked in self._without_data and asked.split("-", 1)[0] == base:
                if self._spoken.others.get(asked) != product:
                    self._spoken.others[asked] = product
                    for key, problem in list(self.problems.items()):
                        if key[1] == asked and problem.state == "unanswered":
                            self._set_aside(key, self._unanswered(key))
                return asked
        return None

    # -- periodic work -----------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Request again, one by one, what was not acknowledged in time; then set it aside. Raises `Unavailable` if the
        venue answers nothing at all."""
        for key in self._renewals.due(now):
            self.again(*key)
        if not self._open:
            return
        late = [key for key, one in self._open.items() if one.due is not None and now >= one.due]
        first = [key for key in late if self._open[key].waiting and self._open[key].asked == 1]
        if first:
            self._say("unacknowledged", level="warning", products=sorted({product for _, product in first}))
        for key in late:
            one = self._open[key]
            if one.waiting and one.asked > 1:
                one.due, one.waiting = now + one.pause_s, False
                one.pause_s = min(UNANSWERED_CAP_S, one.pause_s * 2)
                self._set_aside(key, self._unanswered(key))
            else:
                one.due = None
                self._queue(key[0], (key[1],))
        if late:
            self._check_complete()
        if now - self._opened_at > self._nothing_s and self._nothing_answered():
            self._nothing_s = min(NOTHING_CAP_S, self._nothing_s * 2)
            raise Unavailable("the venue answers no subscription request")

    def _nothing_answered(self) -> bool:
        return len(self._open) == len(self._keys) and all(
            not one.waiting and self.problems[key].state == "unanswered" for key, one in self._open.items()
        )

    def _unanswered(self, key: Key) -> Problem:
        other = self._spoken.others.get(key[1])
        if other is not None:
            return Problem("unanswered", f"{self._venue.name} sends {key[1]} as {other}; configure {other} instead")
        said = "" if self._spoken.complaint is None else f"; it said: {self._spoken.complaint}"
        return Problem("unanswered", f"{self._venue.name} neither acknowledges nor refuses {key[1]} ({key[0]}){said}")

    def _set_aside(self, key: Key, problem: Problem) -> None:
        known = self.problems.get(key)
        self.problems[key] = problem
        new = known != problem and not self._said_for_another_channel(key, problem)
        if new and self._sayer.may_say(f"{key} {problem.state}"):
            event = events.SYMBOL_REFUSED if problem.state == "refused" else events.SYMBOL_UNANSWERED
            text = f"{self._venue.name}: {key[1]} is {problem.state}; the others continue; correct the product ids"
            self._log.error(event, product=key[1], channel=key[0], reason=problem.reason, text=text)
        self._measure(key[1])

    def _said_for_another_channel(self, key: Key, problem: Problem) -> bool:
        return problem.state == "refused" and any(
            of != key and of[1] == key[1] and other == problem for of, other in self.problems.items()
        )

    def _measure(self, product: str) -> None:
        states = {problem.state for key, problem in self.problems.items() if key[1] == product}
        metrics.PRODUCT_REFUSED.labels(self._venue.name, product).set("refused" in states)
        metrics.PRODUCT_UNANSWERED.labels(self._venue.name, product).set("unanswered" in states)

    def _check_complete(self) -> None:
        """Report, once per connection, that every subscription is answered or set aside."""
        if self._complete or any(one.waiting for one in self._open.values()):
            return
        self._complete = True
        running = [p for p in self._venue.products if any((c, p) not in self._open for c in self._venue.channels)]
        by_state: dict[str, set[str]] = {"refused": set(), "unanswered": set()}
        for (_, product), problem in self.problems.items():
            by_state[problem.state].add(product)
        metrics.CONNECTION_UP.labels(self._venue.name).set(bool(running))
        self._say("subscribed", products=running, **{state: sorted(names) for state, names in by_state.items()})

    # -- queries -----------------------------------------------------------------------------------------------------

    def problem_of(self, product: str) -> Problem | None:
        """Return the problem of the product's first channel: that of the trades, where they are subscribed."""
        return self.problems.get((self._venue.channels[0], product))

    def asks_for(self, channel: str, product: str) -> bool:
        """Whether this subscription is unacknowledged: requested, or set aside."""
        return (channel, product) in self._open

    def answered_as(self, product: str) -> str | None:
        return self._spoken.others.get(product)

"""Subscriptions of a connection and the venue's answers, by channel and product.

A product that is refused, ignored or answered under another name is set aside, reported, and requested again from time
to time, without affecting the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from pipeline.core import events, metrics
from pipeline.core.errors import Unavailable
from pipeline.core.log_limiter import LogLimiter
from producers.live.renewals import Key, Renewals
from venues.events import Acknowledged, Resubscribe, SubscriptionRefused
from venues.venue import Venue

ACKNOWLEDGE_S = 10.0  # from sending; venues answer in well under a second
REFUSED_AGAIN_S = 600.0
UNANSWERED_AGAIN_S, UNANSWERED_CAP_S = 60.0, 600.0
# A connection on which the venue answers no request at all is given up; the time doubles with each.
NO_ANSWER_S, NO_ANSWER_CAP_S = 25.0, 600.0


@dataclass
class _Message:
    """A message to send: subscribe products to a channel, or unsubscribe them from it."""

    channel: str
    products: tuple[str, ...]
    unsubscribes: bool = False


@dataclass
class _Pending:
    """A subscription that is not acknowledged. `due`: when it needs the next action."""

    due: float | None = None  # None: not sent yet
    attempts: int = 0
    pause_s: float = UNANSWERED_AGAIN_S
    waiting: bool = True  # for an answer; False: set aside until `due`


@dataclass(frozen=True)
class Problem:
    """Why a channel of a product is not subscribed. `state`: refused, unanswered."""

    state: str
    reason: str


@dataclass
class _Hints:
    """What the venue sent that names none of the requested products but may explain a missing answer."""

    venue_error: str | None = None
    other_names: dict[str, str] = field(default_factory=dict)  # requested product -> what the venue probably calls it


class Subscriptions:
    """The subscriptions of the current connection; `problems` outlives a connection. Times are monotonic seconds.

    `set_status` is called with "subscribed" or "unacknowledged". Used by the connection's thread; `/health` only reads.
    """

    def __init__(self, venue: Venue, set_status: Callable[..., None], log: FilteringBoundLogger) -> None:
        self._venue, self._set_status, self._log = venue, set_status, log
        self.problems: dict[Key, Problem] = {}
        self._keys = {(channel, product) for product in venue.products for channel in venue.channels}
        self._pending: dict[Key, _Pending] = {}
        self._to_send: deque[_Message] = deque()
        self._sent: dict[int, _Message] = {}
        self._number = 0
        self._renewals = Renewals()
        self._log_limiter, self._hints = LogLimiter(), _Hints()
        self._without_data = set(venue.products)
        self._opened_at, self._complete = 0.0, False
        self._no_answer_s = NO_ANSWER_S

    # -- messages ----------------------------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """Subscribe to everything on a new connection."""
        self._to_send.clear()
        self._sent.clear()
        self._renewals.forget()
        self._pending = {key: _Pending() for key in self._keys}
        self._hints.venue_error = None
        self._without_data = set(self._venue.products)
        self._opened_at, self._complete = now, False
        for channel in self._venue.channels:
            good = [product for product in self._venue.products if (channel, product) not in self.problems]
            for start in range(0, len(good), self._venue.products_per_text):
                self._queue(channel, good[start : start + self._venue.products_per_text])
        for channel, product in self.problems:  # separately: one product may get a whole message refused
            self._queue(channel, (product,))

    def _queue(self, channel: str, products: Iterable[str]) -> None:
        self._to_send.append(_Message(channel, tuple(products)))

    def resubscribe(self, channel: str, product: str) -> None:
        """Unsubscribe and resubscribe one channel of one product."""
        self._pending[channel, product] = _Pending()
        self._to_send.append(_Message(channel, (product,), unsubscribes=True))
        self._queue(channel, (product,))

    def renew(self, event: Resubscribe, now: float) -> bool:
        """Schedule a resubscription for the parser; returns False if one is pending, or the channel is not ours."""
        key = (event.channel, event.product_id)
        return key in self._keys and key not in self._pending and self._renewals.ask(key, now)

    def messages(self, seconds: float, now: float) -> Iterator[str]:
        """Yield the messages to send, as many as the venue allows in `seconds`, but at least one. Each is made when it
        is taken: its token must be fresh, and the deadline for the answer starts with sending."""
        for _ in range(max(1, int(self._venue.messages_per_s * seconds))):
            if not self._to_send:
                return
            message = self._to_send.popleft()
            self._number += 1
            if message.unsubscribes:
                yield self._venue.unsubscribe(message.channel, message.products, self._number)
                continue
            self._sent[self._number] = message
            for product in message.products:
                pending = self._pending.get((message.channel, product))
                if pending is not None:
                    pending.due, pending.waiting = now + ACKNOWLEDGE_S, True
                    pending.attempts += 1
            yield self._venue.subscribe(message.channel, message.products, self._number)

    # -- answers -----------------------------------------------------------------------------------------------------

    def acknowledged(self, event: Acknowledged) -> bool:
        """Handle an acknowledgement; returns False for a product that was not requested."""
        sent = self._sent.get(event.request or 0)  # None also for the end of a subscription
        channel = sent.channel if event.channel is None and sent else event.channel
        products = (sent.products if sent else ()) if event.product_id is None else (event.product_id,)
        for product in products:
            if product not in self._venue.products:
                return False
            for ours in self._venue.channels:
                if channel is None or ours == channel:
                    self._confirm((ours, product))
        return True

    def data(self, channel: str, product: str) -> None:
        """Handle data, which counts as an acknowledgement. Called for every frame."""
        if product in self._without_data:
            self._without_data.remove(product)
            self._hints.other_names.pop(product, None)
        if self._pending and (channel, product) in self._pending:
            self._confirm((channel, product))

    def _confirm(self, key: Key) -> None:
        if self._pending.pop(key, None) is None:
            return
        self._no_answer_s = NO_ANSWER_S
        metrics.CONNECTION_UP.labels(self._venue.name).set(1)
        if self.problems.pop(key, None) is not None:
            self._log.info(events.SYMBOL_ANSWERED, product=key[1], channel=key[0])
            self._update_metrics(key[1])
        self._check_complete()

    def refused(self, event: SubscriptionRefused, now: float) -> None:
        """Handle a refusal: set the product aside and request it again every ten minutes."""
        keys = self._refused_keys(event)
        if not keys:  # unclear which one: after the timeout each is requested on its own
            self._hints.venue_error = event.reason
            if self._log_limiter.allows("refused"):
                about = {"product": event.product_id, "channel": event.channel, "reason": event.reason}
                self._log.error(events.SYMBOL_REFUSED, **about)
            return
        for key in keys:
            pending = self._pending[key]
            pending.due, pending.waiting = now + REFUSED_AGAIN_S, False
            self._set_aside(key, Problem("refused", event.reason))
        self._check_complete()

    def _refused_keys(self, event: SubscriptionRefused) -> list[Key]:
        """Return the subscriptions that a refusal refers to, among those waiting for an answer."""
        waiting = [key for key, pending in self._pending.items() if pending.waiting and pending.due is not None]
        sent = self._sent.get(event.request or 0)
        if sent is not None:
            waiting = [key for key in waiting if key[0] == sent.channel and key[1] in sent.products]
        if event.channel is not None:
            waiting = [key for key in waiting if key[0] == event.channel]
        named = [key for key in waiting if key[1] == event.product_id]
        if named or event.product_id in self._venue.products:
            return named
        # It names no product, or one that we do not know: unambiguous only if a single product is waiting.
        return waiting if len({product for _, product in waiting}) == 1 else []

    def venue_error(self, text: str) -> None:
        """Handle an error message of the venue, possibly the reason why an answer is missing."""
        if self._pending:
            self._hints.venue_error = text

    def unrequested(self, product: str) -> str | None:
        """Handle a product that was not requested; returns the requested one that it probably stands for."""
        base = product.split("-", 1)[0]
        for asked in self._venue.products:
            if asked in self._without_data and asked.split("-", 1)[0] == base:
                if self._hints.other_names.get(asked) != product:
                    self._hints.other_names[asked] = product
                    for key, problem in list(self.problems.items()):
                        if key[1] == asked and problem.state == "unanswered":
                            self._set_aside(key, self._unanswered(key))
                return asked
        return None

    # -- periodic work -----------------------------------------------------------------------------------------------

    def poll(self, now: float) -> None:
        """Request again, one by one, what was not acknowledged in time; then set it aside.

        Raises `Unavailable` if the venue answers nothing at all.
        """
        for key in self._renewals.due(now):
            self.resubscribe(*key)
        if not self._pending:
            return
        late = [key for key, pending in self._pending.items() if pending.due is not None and now >= pending.due]
        first = [key for key in late if self._pending[key].waiting and self._pending[key].attempts == 1]
        if first:
            self._set_status("unacknowledged", level="warning", products=sorted({product for _, product in first}))
        for key in late:
            pending = self._pending[key]
            if pending.waiting and pending.attempts > 1:
                pending.due, pending.waiting = now + pending.pause_s, False
                pending.pause_s = min(UNANSWERED_CAP_S, pending.pause_s * 2)
                self._set_aside(key, self._unanswered(key))
            else:
                pending.due = None
                self._queue(key[0], (key[1],))
        if late:
            self._check_complete()
        if now - self._opened_at > self._no_answer_s and self._nothing_answered():
            self._no_answer_s = min(NO_ANSWER_CAP_S, self._no_answer_s * 2)
            raise Unavailable("the venue answers no subscription request")

    def _nothing_answered(self) -> bool:
        return len(self._pending) == len(self._keys) and all(
            not pending.waiting and self.problems[key].state == "unanswered" for key, pending in self._pending.items()
        )

    def _unanswered(self, key: Key) -> Problem:
        other = self._hints.other_names.get(key[1])
        if other is not None:
            return Problem("unanswered", f"{self._venue.name} sends {key[1]} as {other}; configure {other} instead")
        error = "" if self._hints.venue_error is None else f"; it said: {self._hints.venue_error}"
        return Problem("unanswered", f"{self._venue.name} neither acknowledges nor refuses {key[1]} ({key[0]}){error}")

    def _set_aside(self, key: Key, problem: Problem) -> None:
        known, self.problems[key] = self.problems.get(key), problem
        new = known != problem and not self._logged_for_another_channel(key, problem)
        if new and self._log_limiter.allows(f"{key} {problem.state}"):
            event = events.SYMBOL_REFUSED if problem.state == "refused" else events.SYMBOL_UNANSWERED
            text = f"{self._venue.name}: {key[1]} is {problem.state}; the others continue; correct the product ids"
            self._log.error(event, product=key[1], channel=key[0], reason=problem.reason, text=text)
        self._update_metrics(key[1])

    def _logged_for_another_channel(self, key: Key, problem: Problem) -> bool:
        return problem.state == "refused" and any(
            k != key and k[1] == key[1] and other == problem for k, other in self.problems.items()
        )

    def _update_metrics(self, product: str) -> None:
        states = {problem.state for key, problem in self.problems.items() if key[1] == product}
        metrics.PRODUCT_REFUSED.labels(self._venue.name, product).set("refused" in states)
        metrics.PRODUCT_UNANSWERED.labels(self._venue.name, product).set("unanswered" in states)

    def _check_complete(self) -> None:
        """Report, once per connection, that every subscription is answered or set aside."""
        if self._complete or any(pending.waiting for pending in self._pending.values()):
            return
        self._complete = True
        running = [p for p in self._venue.products if any((c, p) not in self._pending for c in self._venue.channels)]
        by_state: dict[str, set[str]] = {"refused": set(), "unanswered": set()}
        for (_, product), problem in self.problems.items():
            by_state[problem.state].add(product)
        metrics.CONNECTION_UP.labels(self._venue.name).set(bool(running))
        self._set_status("subscribed", products=running, **{state: sorted(names) for state, names in by_state.items()})

    # -- queries -----------------------------------------------------------------------------------------------------

    def problem_of(self, product: str) -> Problem | None:
        """Return the problem of the product's first channel, which is that of its trades if they are subscribed."""
        return self.problems.get((self._venue.channels[0], product))

    def is_pending(self, channel: str, product: str) -> bool:
        """Return whether this subscription is not acknowledged: requested, or set aside."""
        return (channel, product) in self._pending

    def other_name(self, product: str) -> str | None:
        """Return the name under which the venue probably sends the product."""
        return self._hints.other_names.get(product)

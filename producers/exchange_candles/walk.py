"""Walk over one interval of one product on one exchange until every candle is final or set aside. Times in µs."""

from __future__ import annotations

import threading
from bisect import bisect_left

from pipeline.core import events
from pipeline.core.errors import Unavailable
from pipeline.core.log import get_logger
from pipeline.core.times import us_to_iso
from producers.exchange_candles import pages
from producers.exchange_candles.bad_rows import BadRows
from producers.exchange_candles.book import Book, Results
from producers.exchange_candles.coarse import Coarse
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.intervals import FOREVER, Interval, common, holds, merged, without
from producers.exchange_candles.looks import QUIET_US, Answer, Look, begins_with, ends_with, look_of
from producers.exchange_candles.rows import Rows, Values, floor_us

# How many candles before the interval to look for a row that proves its start.
EARLIER = 60
# Extra candles requested around a page, to prove what lies between: two before and two after.
MARGINS = 4
SHORT = 0.9
MOST_ASIDE = 50  # intervals of one walk; more are set aside as one


class Walk:
    """A walk over one interval. `final`: the intervals published as final."""

    def __init__(
        self, exchange: Exchange, product_id: str, book: Book, results: Results, stop: threading.Event, *, patient: bool
    ) -> None:
        """`patient`: retry differing answers later, not at once."""
        self._exchange, self._product, self._book, self._results, self._stop = exchange, product_id, book, results, stop
        self._memory, self._aside, self._patient = book.memory, book.aside, patient
        self._width = book.memory.width_us
        self._log = get_logger().bind(venue=exchange.venue, product=product_id)
        self._coarse = Coarse(exchange, product_id, self._log)
        self._span: Interval = (0, 0)
        self._failed = 0
        self._answer = Answer(Rows(), 0)  # the last
        self._calls = self.candles = 0
        self.final: list[Interval] = []
        self._short = (0, 0)  # where a short answer ended, and how many candles it had
        self._seen: list[Interval] = []  # covered by the looks of this walk
        self._bad = BadRows(self._width)

    @property
    def calls(self) -> int:
        return self._calls + self._coarse.calls

    def run(self, span: Interval) -> None:
        """Walk. Raises `Unavailable` if two consecutive pages fail, `Refused`, `Stopped`."""
        self._span = span
        begin, end = span
        needed = pages.calls_needed(begin, end, self._width // 1_000_000, self._exchange.page_size)
        if needed >= pages.COARSE_FROM_PAGES and self._book.coarse_fits:
            self._coarse.use(self._width)
        cursor = begin
        while cursor < end and not self._stop.is_set():
            if self.calls >= pages.most_calls(begin, end, self._width // 1_000_000, self._exchange.page_size):
                self._aside.put((cursor, end), "it returns too few candles per call")
                break
            following = self._page(cursor)
            if following is None:
                break
            cursor = self._known_until(following)
            self._ask_coarse()
            self._look_again(cursor)
        self._set_aside()

    def _page(self, cursor: int) -> int | None:
        """Fetch one page from `cursor`; returns the next cursor, or None if nothing can be known yet."""
        end, width = self._span[1], self._width
        if (known := self._known_until(cursor)) > cursor:
            return known
        # Unsettled candles are included if there is room, to save a call.
        young = self._memory.settle_us // width + 2
        limit = max(1, min(self._exchange.page_size - MARGINS, (end - cursor) // width + young))
        window_end = cursor + limit * width
        # Start one earlier: a candle there proves that those missing after it are missing at the exchange.
        look = self._tried(cursor - width, limit + 1, (cursor, FOREVER))
        if look is None:
            self._aside.put((cursor, min(end, window_end)), "it did not answer")
            return min(end, window_end)
        if (known := self._known_until(cursor)) > cursor:
            self._learn(cursor, known, limit, look)
            return known
        first = min((a for a, _ in look.spans if a > cursor), default=None)
        if first is None:
            # No candles, and too recent to conclude that there are none; or rows without a valid time.
            young_from = floor_us(look.at_us - QUIET_US, width)
            if cursor >= young_from:
                return None
            self._prove_end(cursor, min(young_from, window_end))
            return min(end, window_end)
        return self._prove(cursor, look, first, window_end)

    def _learn(self, cursor: int, known: int, limit: int, look: Look) -> None:
        """Learn a smaller page size from a short answer that the next one continues."""
        if cursor == self._short[0] and cursor in look.rows:
            self._exchange.gives_at_most(self._short[1])
        given = len(self._answer.rows.good)
        # Up to the end of the window it is not short: few of its candles may have been traded in.
        short = known < min(self._span[1], cursor + limit * self._width) and given < SHORT * limit
        self._short = (known, given) if short else (0, 0)

    def _prove(self, cursor: int, look: Look, first: int, window_end: int) -> int:
        """The answer starts later than requested: find out whether earlier candles do not exist or were omitted."""
        wide, width, size = self._answer, self._width, self._exchange.page_size
        lead = min(size - 1, (first - cursor) // width)
        earlier = max(1, min(EARLIER, size - lead))
        narrow = self._look(cursor - earlier * width, earlier + lead, (cursor, FOREVER))
        inside = any(cursor <= bucket < first for bucket in narrow.rows)
        if inside and first < window_end:
            self._exchange.gives_at_most(len([bucket for bucket in look.rows if cursor <= bucket < window_end]))
        if (known := self._known_until(cursor)) > cursor:
            return known
        if inside:
            return cursor
        if first < window_end and not wide.rows.refused:  # perhaps only a window is answered, and this is empty
            self._look(cursor, (first - cursor) // width, (cursor, FOREVER))
            if (known := self._known_until(cursor)) > cursor:
                return known
        self._look(cursor, 2, (cursor, FOREVER))
        begins = begins_with(self._answer, 2, wide, cursor, width)
        if begins is not None:
            for answer in (wide, self._answer):
                self._apply(Look(answer.at_us, [(cursor, begins)], {}), (cursor, begins))
        if (known := self._known_until(cursor)) > cursor:
            return known
        end = min(first, self._span[1])
        if cursor >= floor_us(wide.at_us - QUIET_US, width):
            return end  # it may still be broken
        text = us_to_iso(first)
        self._log.warning(
            events.HISTORY_BEGINS,
            asked_from=us_to_iso(cursor),
            first=text,
            text=f"{self._exchange.venue} has no candles of {self._product} older than {text}",
        )
        self._aside.put((cursor, end), f"it returns no candles older than {text}, and no proof that there are none")
        return end

    def _prove_end(self, cursor: int, end: int) -> None:
        """Find out whether an answer of older candles only has the newest ones before `end`, or any others."""
        wide = self._answer
        if wide.rows.good and max(wide.rows.good) < cursor:
            self._look(cursor, 2, (cursor, FOREVER))
            if ends_with(self._answer, 2, wide):
                for answer in (wide, self._answer):
                    self._apply(Look(answer.at_us, [(cursor, end)], {}), (cursor, end))

    def _tried(self, since: int, limit: int, wanted: Interval) -> Look | None:
        """Call `_look`; returns None if it failed once. Raises `Unavailable` at the second consecutive failure.

        Where the candles end before `wanted`, as at weekends, only an answer that begins there can say that none
        follow: it is empty.
        """
        try:
            look = self._look(since, limit, wanted)
            rows, quiet_us = self._answer.rows, look.at_us - QUIET_US - self._width
            if rows.good and not rows.refused and max(rows.good) < wanted[0] < quiet_us:
                look = self._look(wanted[0], limit - (wanted[0] - since) // self._width, wanted)
        except Unavailable as error:
            self._failed += 1
            if self._failed > 1:
                raise
            self._log.error(
                events.REQUEST_FAILED,
                asked_from=us_to_iso(since),
                error=str(error),
                text="continuing with the other pages",
            )
            return None
        self._failed = 0
        return look

    def _look(self, since: int, limit: int, wanted: Interval) -> Look:
        """Request once and publish what becomes final. Candles outside `wanted` only serve as proof of the others."""
        answer = self._exchange.candles(self._product, self._width // 1_000_000, since, limit)
        self._calls += 1
        running = floor_us(answer.at_us, self._width)
        for row in answer.rows.refused:
            if row.bucket_us is None or row.bucket_us < running:
                self._results.refused(row)
                self._bad.add(row, self._span)
        self._answer = answer
        look = look_of(answer, since, limit, self._width)
        self.candles += len(look.rows)
        self._apply(look, wanted)
        return look

    def _apply(self, look: Look, wanted: Interval) -> None:
        spans = common(look.spans, [wanted])
        self._seen = merged(*self._seen, *spans)
        spans = without(common(spans, [(0, look.at_us)]), self.final)
        look = Look(look.at_us, spans, {b: values for b, values in look.rows.items() if holds(spans, b)})
        settled = self._memory.settled_us(look.at_us)
        twice = common(self._memory.spans, common(spans, [(0, settled)]))
        final = self._memory.add(look)
        self._publish(look.rows, final, look.at_us)
        differs = without(twice, final)
        if self._patient:
            for span in differs:
                self._aside.put(span, "its answers differ", first_s=self._memory.settle_us / 1e6, quiet=True)
        self._show(look, [*differs, (max(settled, self._span[0]), look.at_us + 1)])

    def _publish(self, rows: dict[int, Values], final: list[Interval], at_us: int) -> None:
        buckets = sorted(rows)
        for begin, end in final:
            inside = buckets[bisect_left(buckets, begin) : bisect_left(buckets, end)]
            self._results.final({bucket: rows[bucket] for bucket in inside}, (begin, end), at_us)
        if final:
            self.final = merged(*self.final, *final)
            self._aside.drop(final)
            self._book.shown = {b: v for b, v in self._book.shown.items() if not holds(final, b)}

    def _show(self, look: Look, unsure: list[Interval]) -> None:
        """Publish candles that may still change, if they have changed."""
        shown = self._book.shown
        news = {b: values for b, values in look.rows.items() if holds(unsure, b) and shown.get(b) != values}
        if news:
            self._results.young(news, look.at_us)
            shown |= news

    def _ask_coarse(self) -> None:
        """Use the exchange's hourly candles as the second look at complete hours of minutes."""
        coarse_us = self._coarse.width_us
        if coarse_us is None:
            return
        limit_us = min(self._span[1], self._memory.settled_us(self._exchange.now_us()))
        looked = [
            span
            for one in common(self._memory.spans, [(self._span[0], limit_us)])
            for span in pages.whole(one, coarse_us)
        ]
        look = self._coarse.look(looked[0][0], limit_us) if looked else None
        if look is None:
            return
        agreed, contradicted = self._memory.agreeing(look, coarse_us)
        if contradicted * coarse_us > sum(b - a for a, b in agreed):
            self._coarse.width_us, self._book.coarse_fits = None, False
        self._publish(self._memory.rows, agreed, look.at_us)
        self._memory.forget(agreed)

    def _look_again(self, cursor: int) -> None:
        """Take the second look, and a third where the two differ."""
        begin, end = self._span
        settled = min(cursor, self._memory.settled_us(self._exchange.now_us()))
        left = without(common(self._memory.spans, [(begin, settled)]), self._aside.blocked())
        if self._coarse.width_us is not None and cursor < end:
            left = without(left, [(floor_us(cursor, self._coarse.width_us), cursor)])  # its hour is not complete yet
        size = self._exchange.page_size
        page = max(1, size - MARGINS)
        # Then from further back, in case no candle is close before; then alone: an empty window may be the proof.
        for before, after in ((2, 2), (EARLIER, 2), (0, 0)):
            rest = without(common(self._memory.spans, left), self._aside.blocked())
            while rest and not self._stop.is_set():
                at = rest[0][0]
                # Everything that fits into one answer, including refused rows in between: they may be valid now.
                until = min(at + page * self._width, max(b for a, b in rest if a < at + page * self._width))
                # Start two earlier: another URL than the first look's, so that no cache on the way answers.
                many = (until - at) // self._width
                back = max(0, min(before, size - after - many))
                look = self._tried(at - back * self._width, back + many + after, (at, rest[-1][1]))
                if look is None:
                    self._aside.put((at, until), "it did not answer a second time")
                # A gap longer than a page is proven by a single answer that has both its sides.
                rest = without(rest, [(at, until), *(look.spans if look else [])])

    def _known_until(self, cursor: int) -> int:
        """Return how far, from `cursor` on, everything is seen, refused or set aside."""
        known = merged(*self._seen, *self._aside.blocked(), *self._bad.spans())
        return next((min(b, self._span[1]) for a, b in known if a <= cursor < b), cursor)

    def _set_aside(self) -> None:
        """Set aside what could be final but is not, except silence, as long as it may still be broken."""
        if self._stop.is_set():
            return
        now_us = self._exchange.now_us()
        settled = min(self._span[1], self._memory.settled_us(now_us))
        young_from = floor_us(now_us - QUIET_US, self._width) - self._width
        silent = without([(young_from, FOREVER)], [*self._memory.spans, *self._bad.spans()])
        rest = without([(self._span[0], settled)], [*self.final, *self._aside.blocked(), *silent])
        for a, b in rest if len(rest) <= MOST_ASIDE else [(rest[0][0], rest[-1][1])]:
            bad = self._bad.why((a, b))
            why = "its answers differ" if common(self._memory.spans, [(a, b)]) else "no answer proves it"
            self._aside.put((a, b), bad or why, quiet=not bad and a >= young_from)

    def refused_rows(self) -> list[str]:
        """Return the refused rows that are still invalid, as text."""
        return self._bad.left(self._aside.blocked(), self.final)

"""`scripts/venue-check NAME CAPTURE`: check a new venue against the acceptance list, with a capture of its stream.

A capture is what one connection received, a line for each frame: the frame itself, or `{"t": "recv", "data": "..."}`
as recorders write it. docs/adding-a-venue.md says what each point of the list is for.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import structlog

from consumers.sink import DeadLetter, MessageSlice
from consumers.subscription import Message
from consumers.trades import Trades
from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.runtime import now_us, program
from pipeline.core.settings import load, names_of
from schemas import encode
from schemas.records import TradesMessage
from venues import id_ranges
from venues.adapter import Adapter, Proof
from venues.events import Acknowledged, TickerFrame, TradeFrame, Unreadable, VenueTime
from venues.registry import adapters
from venues.venue import Venue

MUTATIONS = 300
SPOILT = (b"", b"null", b"-1", b"1e99", b'"', b"[[", b"\xff", b"NaN")
SHOWN = 3
NOWHERE = "http://127.0.0.1:9"


def frames_of(capture: Path) -> list[bytes]:
    """Return the received frames. Raises `WrongUse` if there are none."""
    frames = []
    for line in capture.read_bytes().splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if isinstance(told, dict) and isinstance(told.get("data"), str) and told.get("t") in ("send", "recv"):
            if told["t"] == "recv":
                frames.append(str(told["data"]).encode())
        elif line.strip():
            frames.append(line)
    if not frames:
        raise WrongUse(f"{capture} contains no frame; write one frame on each line.")
    return frames


@dataclass
class Heard:
    """What the adapter parsed from all frames."""

    trades: dict[str, list[TradeFrame]] = field(default_factory=dict)
    bad: list[Unreadable] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    raised: list[str] = field(default_factory=list)

    def take(self, venue: Venue, frame: bytes) -> None:
        try:
            said = venue.read(frame)
        except Exception as error:  # what the list is about
            self.raised.append(f"{type(error).__name__}: {error}")
            return
        for one in said:
            self.kinds[type(one).__name__] += 1
            if isinstance(one, TradeFrame):
                self.trades.setdefault(one.product_id, []).append(one)
            elif isinstance(one, Unreadable):
                self.bad.append(one)
            elif isinstance(one, Acknowledged) and (one.product_id is not None or venue.products_per_text == 1):
                self.acknowledged += 1


Point = tuple[str, list[str]]  # of the list, and what is wrong


def points(adapter: Adapter[Any], frames: list[bytes]) -> Iterator[Point]:
    """The acceptance list, in the order of docs/adding-a-venue.md."""
    settings = load(adapter.settings, rest_url=NOWHERE)  # the venue itself is asked nothing
    prefix = f"{adapter.name.upper()}_"
    odd = [name for name, of in names_of(adapter.settings).items() if of == "rest_url" and not name.startswith(prefix)]
    yield f"its settings begin with {prefix}", odd
    products = adapter.products(settings)
    yield "its products are canonical", [one for one in products if canonical_product(one) != one]
    with TemporaryDirectory() as folder:
        stop = threading.Event()
        venue = adapter.stream(settings, Path(folder), stop)
        yield "its texts are made", _texts(venue, products)
        heard = Heard()
        for frame in frames:
            heard.take(venue, frame)
        yield "every frame is understood", [f"{one.reason}: {one.detail}" for one in heard.bad] + heard.raised
        yield "subscriptions are acknowledged by product", [] if heard.acknowledged else ["no acknowledgement is seen"]
        if adapter.proof is Proof.SAMPLED:
            yield "quotes are seen", [] if heard.kinds[TickerFrame.__name__] else [f"only {dict(heard.kinds)}"]
        else:
            yield "trades are seen", [] if heard.trades else [f"only {dict(heard.kinds)}"]
        yield "the venue's clock is seen", [] if heard.kinds[VenueTime.__name__] else ["no frame carries its time"]
        yield "the writer takes every trade", list(_refused(adapter.name, heard))
        if adapter.proof is Proof.IDS:
            yield "trade ids are contiguous", list(_holes(heard))
        yield f"{MUTATIONS} spoilt frames raise nothing", _spoilt(venue, frames)
        stop.set()  # ends threads that ask by REST


def _texts(venue: Venue, products: tuple[str, ...]) -> list[str]:
    texts = [*venue.opened(), *(venue.subscribe(channel, products, 1) for channel in venue.channels)]
    return [f"empty text for {venue.channels}"] if not all(texts) or not venue.channels else []


def _refused(name: str, heard: Heard) -> Iterator[str]:
    """Yield what would become a dead letter."""
    for product, told in heard.trades.items():
        for frame in told:
            record = TradesMessage(name, product, "crypto", "live", now_us(), frame.rows)
            try:
                topic = f"persistent://x/trades/{name}.{product.lower()}"
                message = Message(topic, encode("trades", record), "captured")
                sink = Trades()
                decoded, rows = sink.read(message)
                letters: list[DeadLetter] = list(sink.prepare([MessageSlice(message, decoded, 0, rows)]).letters)
            except BadData as error:
                yield f"{product}: {error}"
            except Exception as error:  # a row that the schema cannot hold
                yield f"{product}: {type(error).__name__}: {error}"
            else:
                yield from (f"{product}: {letter.reason}: {letter.detail}" for letter in letters)


def _holes(heard: Heard) -> Iterator[str]:
    for product, told in heard.trades.items():
        missing = id_ranges.between(row.trade_id for frame in told for row in frame.rows)
        if missing:
            yield f"{product}: {id_ranges.size(missing)} ids are missing, the first is {missing[0][0]}"


def _spoilt(venue: Venue, frames: list[bytes]) -> list[str]:
    """Parse frames that are truncated, have changed bytes, are doubled or have values swapped."""
    dice, heard = random.Random(7), Heard()
    for _ in range(MUTATIONS):
        frame = bytearray(dice.choice(frames))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(frame) + 1)
            frame[at : at + dice.randint(0, 8)] = dice.choice(SPOILT)
        heard.take(venue, bytes(frame))
    return heard.raised


@click.command()
@click.argument("name")
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program("venue-check", logs=False)
def main(name: str, capture: Path) -> int:
    """Check the venue NAME against the acceptance list, with the frames of CAPTURE. Exit code 1 if a point fails."""
    if name not in adapters():
        raise WrongUse(
            f"Unknown venue {name}: venues/{name} needs settings.py and adapter.py; known are {', '.join(adapters())}."
        )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    failed = 0
    for what, wrong in points(adapters()[name], frames_of(capture)):
        print(f"{'FAILED' if wrong else 'ok':<8}{what}")
        for text in wrong[:SHOWN]:
            print(f"          {text}")
        if len(wrong) > SHOWN:
            print(f"          and {len(wrong) - SHOWN} more")
        failed += bool(wrong)
    print(
        f"\n{adapters()[name].title}: proven by {adapters()[name].proof}; "
        + ("every point holds" if not failed else f"{failed} points fail")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

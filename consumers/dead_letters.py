"""What could not be stored: look at it, and send it again once the cause is mended. `python -m consumers.dead_letters`

A letter is known by `<program>/<ledger>:<entry>:<batch>`, its place on `dead-letters/<program>`. Topics are logs, so
nothing is taken out: what was sent again is noted by a further letter with the reason `replayed`, and `list` leaves
both out. Letters live as long as the topic keeps them (7 days).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import click
import pulsar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers import letter_box
from consumers.letter_box import NAMESPACE, NEWEST, REPLAYED, SCHEMAS, DeadLetter, read, topics
from consumers.sink import MOST_PAYLOAD, printable
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name, venue_and_product
from pipeline.core.errors import BadData, Refused, Unavailable, WrongUse
from pipeline.core.runtime import Stop, now_us, program
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.database import query
from pipeline.database.connection import connect
from pipeline.services.demo import enter_demo
from schemas import encode

__all__ = ["DeadLetter", "main", "read", "topics"]

_MESSAGE_ID = re.compile(r"\((-?\d{1,18}),(-?\d{1,18}),(-?\d{1,9}),(-?\d{1,9})\)")  # ledger, entry, partition, batch


class Replay:
    """Sends letters again to the topics that their rows came from."""

    def __init__(self, settings: PulsarSettings, stop: Stop) -> None:
        self._settings = settings
        self._bus = Bus(settings, stop)

    def send(self, letter: DeadLetter) -> str:
        """Publish and wait for the broker; returns what was sent. Raises `Refused` for what cannot be sent again."""
        schema = self._schema(letter)
        record, what = self._record(letter, schema)
        try:
            data = record if isinstance(record, bytes) else encode(schema, record)
        except Exception as error:  # whatever an encoder raises on a row that a stranger made up
            raise Refused(f"the row is none of {schema}.avsc: {type(error).__name__}") from None
        self._publish(letter.topic, schema, data)
        note = {
            "source": letter.source,
            "topic": letter.topic,
            "message_id": letter.id,
            "row": letter.row,
            "reason": REPLAYED,
            "detail": what,
            "payload": b"",
            "at_us": now_us(),
        }
        self._publish(full_name(self._settings.tenant, NAMESPACE, letter.source), "dead_letter", note)
        return what

    def _schema(self, letter: DeadLetter) -> str:
        """The schema of the topic, which a letter names and a stranger may have written: only ours are published to."""
        if not letter.topic.startswith("persistent://"):
            raise Refused("it is a frame of the venue and not of a topic: the gap filler fetches what it held")
        schema = SCHEMAS.get(letter.namespace)
        if schema is None or not letter.topic.startswith(f"persistent://{self._settings.tenant}/"):
            raise Refused(f"{letter.topic} is not a topic of market data of {self._settings.tenant}")
        venue_and_product(letter.topic)
        return schema

    def _publish(self, topic: str, schema: str, record: dict[str, Any] | bytes) -> None:
        topic = re.sub(r"-partition-\d+$", "", topic)
        publisher = self._bus.publisher_to(topic, schema, f"replay-{now_us()}", whole=schema == "quotes")
        publisher.send(record, wait=True)
        if not publisher.flush(30):
            raise Unavailable(f"the broker did not take the message for {topic} within 30 s")
        publisher.close()

    def _record(self, letter: DeadLetter, schema: str) -> tuple[dict[str, Any] | bytes, str]:
        if letter.row is None and not letter.payload:
            raise Refused("its message could not even be read: load that time again instead")
        if letter.row is None:
            return (letter.payload if len(letter.payload) < MOST_PAYLOAD else self._original(letter)), "the message"
        if schema not in ("ticker", "trades"):
            return self._original(letter), "the message that held the row"
        row = self._row(letter)
        if schema == "ticker":
            return row, "the ticker"
        if "first_id" in row:
            raise Refused("it is a finding about missing ids: the gap filler looks for them again")
        venue, product = venue_and_product(letter.topic)
        return {
            "venue": venue,
            "product_id": product,
            "asset_class": _asset_class(venue, product),
            "origin": "repair",
            "received_at_us": now_us(),
            "trades": [row],
            "holes": [],
        }, "the trade"

    def _row(self, letter: DeadLetter) -> dict[str, Any]:
        try:
            row = json.loads(letter.payload)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise Refused("it holds no row, or only the beginning of one")
        return row

    def _original(self, letter: DeadLetter) -> bytes:
        """The whole message from its topic, where that still has it."""
        match = _MESSAGE_ID.fullmatch(letter.message_id)
        if match is not None:
            ledger, entry, partition, batch = map(int, match.groups())
            try:
                place = pulsar.MessageId(partition, ledger, entry, batch)
                reader = self._bus.client.create_reader(letter.topic, place, start_message_id_inclusive=True)
            except (pulsar.PulsarException, TypeError, ValueError) as error:
                raise Refused(f"the message that held this row cannot be looked for: {error}") from None
            try:
                message = reader.read_next(timeout_millis=5000)
                found = message.message_id()
                if (found.ledger_id(), found.entry_id()) == (ledger, entry):
                    return bytes(message.data())
            except pulsar.Timeout:
                pass
            finally:
                reader.close()
        raise Refused("the message that held this row is no longer on its topic: load that time again instead")

    def close(self) -> None:
        self._bus.close()


def _asset_class(venue: str, product: str) -> str:
    with connect(load(DatabaseSettings), "dead-letters", read_only=True) as conn:
        known = "SELECT asset_class FROM instruments WHERE venue = %s AND product_id = %s"
        return str(query.scalar(conn, known, (venue, product)) or "crypto")


def _chosen(settings: PulsarSettings, ids: tuple[str, ...]) -> Iterator[DeadLetter]:
    for name in ids:
        found = letter_box.one(settings, name)
        if found is None:
            raise WrongUse(f"no dead letter is called {printable(name)}; `list` shows what there is.")
        yield found


def _all(settings: PulsarSettings, reason: str | None) -> Iterator[DeadLetter]:
    """What was not sent again yet. Twice through all letters, so that none has to be kept."""
    done = {letter.message_id for letter in letter_box.every(settings) if letter.reason == REPLAYED}
    for letter in letter_box.every(settings):
        if letter.reason != REPLAYED and letter.id not in done and reason in (None, letter.reason):
            yield letter


@click.group()
@click.option("--demo", "of_demo", is_flag=True, help="Of the demonstration.")
def main(of_demo: bool) -> None:
    """Rows and messages that could not be stored."""
    if of_demo:
        enter_demo()


@main.command("list")
@click.option("--reason", help="Only this reason, such as price.")
@click.option("--limit", type=click.IntRange(1), default=NEWEST, show_default=True, help="The newest so many.")
@click.option("--all", "everything", is_flag=True, help="Also what was sent again already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@program("dead-letters")
def list_(reason: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """What was refused and why, oldest first."""
    found = read(load(PulsarSettings), limit=limit, seconds=60.0)
    letters = [one for one in found if (everything or not one.replayed) and reason in (None, one.reason)]
    if as_json:
        for one in letters:
            click.echo(json.dumps({**vars(one), "payload": one.content}))
        return
    table = Table(box=None)
    for name in ("id", "at (UTC)", "from", "row", "reason", "detail"):
        table.add_column(name, no_wrap=name != "detail", overflow="fold")  # an id is there to be copied
    for one in letters:
        place = one.topic.removeprefix("persistent://").split("/", 1)[-1]
        row = "" if one.row is None else str(one.row)
        cells = (one.id, f"{one.at:%m-%d %H:%M:%S}", place[:80], row, one.reason[:40], one.detail[:80])
        table.add_row(*(Text(printable(cell)) for cell in cells))  # not as markup: a stranger may have written it
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=250)
    console.print(table if letters else "No dead letters.")
    if len(found) == limit:
        console.print(f"The newest {limit}; --limit shows more.")


@main.command()
@click.argument("letter_id")
@program("dead-letters")
def show(letter_id: str) -> None:
    """One letter, whole."""
    (one,) = _chosen(load(PulsarSettings), (letter_id,))
    for name in ("id", "topic", "message_id", "row", "reason", "detail"):
        click.echo(f"{name:<11} {printable(str(getattr(one, name)))}")
    click.echo(f"{'at':<11} {one.at.astimezone(UTC).isoformat()}")
    click.echo(json.dumps(one.content, indent=2))


@main.command()
@click.argument("letter_ids", nargs=-1)
@click.option("--reason", help="Every letter with this reason.")
@click.option("--all", "everything", is_flag=True, help="Every letter that was not sent again yet.")
@program("dead-letters")
def replay(letter_ids: tuple[str, ...], reason: str | None, everything: bool) -> int:
    """Send letters to their topics again, once the cause is mended. The ledger keeps what is stored from doubling."""
    settings = load(PulsarSettings)
    if not letter_ids and reason is None and not everything:
        raise WrongUse("name letters by their id, or say --reason or --all.")
    sender = Replay(settings, Stop().listen())
    sent = failed = 0
    try:
        for one in _chosen(settings, letter_ids) if letter_ids else _all(settings, None if everything else reason):
            try:
                what = sender.send(one)
                sent += 1
                click.echo(printable(f"{one.id}: sent {what} to {one.topic}"))
            except (Refused, BadData) as error:
                failed += 1
                click.echo(printable(f"{one.id}: not sent, {error}"))
    finally:
        sender.close()
    click.echo(f"{sent} sent again, {failed} not.")
    return 1 if failed else 0


if __name__ == "__main__":
    main()

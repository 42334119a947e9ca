"""`python -m consumers.dead_letters`: list what could not be stored, and send it again once the cause is fixed.

A dead letter's id is `<program>/<ledger>:<entry>:<batch>`, its position on `dead-letters/<program>`. Topics are logs,
so nothing is removed: a replay is recorded by another letter with the reason `replayed`, and `list` omits both. Letters
live as long as their topic's retention (7 days).
"""

from __future__ import annotations

import json
import re
import sys
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
from consumers.sink import MOST_PAYLOAD
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name, venue_and_product
from pipeline.core.errors import BadData, Refused, Unavailable, WrongUse
from pipeline.core.runtime import Stop, now_us, program
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.text import printable
from pipeline.database import query
from pipeline.database.connection import connect
from pipeline.services.demo import enter_demo
from schemas import encode

__all__ = ["DeadLetter", "main", "read", "topics"]

_MESSAGE_ID = re.compile(r"\((-?\d{1,18}),(-?\d{1,18}),(-?\d{1,9}),(-?\d{1,9})\)")  # ledger, entry, partition, batch


class Replay:
    """Sends dead letters to the topics that their rows came from."""

    def __init__(self, settings: PulsarSettings, stop: Stop) -> None:
        self._settings = settings
        self._bus = Bus(settings, stop)

    def send(self, letter: DeadLetter) -> str:
        """Publish and wait for the confirmation; returns what was sent. Raises `Refused` if it cannot be sent again."""
        schema = self._schema(letter)
        record, what = self._record(letter, schema)
        try:
            data = record if isinstance(record, bytes) else encode(schema, record)
        except Exception as error:  # whatever an encoder raises on a hostile row
            raise Refused(f"the row does not match {schema}.avsc: {type(error).__name__}") from None
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
        """Return the schema of the letter's topic. Anyone may have written the letter: only our topics are allowed."""
        if not letter.topic.startswith("persistent://"):
            raise Refused("it is a venue's frame, not a message of a topic: the gap filler fetches its content")
        schema = SCHEMAS.get(letter.namespace)
        if schema is None or not letter.topic.startswith(f"persistent://{self._settings.tenant}/"):
            raise Refused(f"{letter.topic} is not a market data topic of {self._settings.tenant}")
        venue_and_product(letter.topic)
        return schema

    def _publish(self, topic: str, schema: str, record: dict[str, Any] | bytes) -> None:
        topic = re.sub(r"-partition-\d+$", "", topic)
        publisher = self._bus.publisher_to(topic, schema, f"replay-{now_us()}", whole=schema == "quotes")
        publisher.send(record, wait=True)
        if not publisher.flush(30):
            raise Unavailable(f"the broker did not confirm the message for {topic} within 30 s")
        publisher.close()

    def _record(self, letter: DeadLetter, schema: str) -> tuple[dict[str, Any] | bytes, str]:
        """Return what to send, as a record or encoded, and what to call it. Raises `Refused`."""
        if letter.row is None and not letter.payload:
            raise Refused("its message could not be read; load that interval again instead")
        if letter.row is None:
            return (letter.payload if len(letter.payload) < MOST_PAYLOAD else self._original(letter)), "the message"
        if schema not in ("ticker", "trades"):
            return self._original(letter), "the message that held the row"
        row = self._row(letter)
        if schema == "ticker":
            return row, "the ticker"
        if "first_id" in row:
            raise Refused("it is a finding about missing ids; the gap filler will look for them again")
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
            raise Refused("it contains no row, or a truncated one")
        return row

    def _original(self, letter: DeadLetter) -> bytes:
        """Read the original message from its topic. Raises `Refused` if it is no longer there."""
        match = _MESSAGE_ID.fullmatch(letter.message_id)
        if match is not None:
            ledger, entry, partition, batch = map(int, match.groups())
            try:
                place = pulsar.MessageId(partition, ledger, entry, batch)
                reader = self._bus.client.create_reader(letter.topic, place, start_message_id_inclusive=True)
            except (pulsar.PulsarException, TypeError, ValueError) as error:
                raise Refused(f"the original message cannot be read: {error}") from None
            try:
                message = reader.read_next(timeout_millis=5000)
                found = message.message_id()
                if (found.ledger_id(), found.entry_id()) == (ledger, entry):
                    return bytes(message.data())
            except pulsar.Timeout:
                pass
            finally:
                reader.close()
        raise Refused("the original message is no longer on its topic; load that interval again instead")

    def close(self) -> None:
        self._bus.close()


def _asset_class(venue: str, product: str) -> str:
    with connect(load(DatabaseSettings), "dead-letters", read_only=True) as conn:
        known = "SELECT asset_class FROM instruments WHERE venue = %s AND product_id = %s"
        return str(query.scalar(conn, known, (venue, product)) or "crypto")


def _chosen(settings: PulsarSettings, ids: tuple[str, ...]) -> Iterator[DeadLetter]:
    """Yield the letters with these ids. Raises `WrongUse` for an unknown one."""
    for name in ids:
        found = letter_box.find(settings, name)
        if found is None:
            raise WrongUse(f"no dead letter {printable(name)}; `list` shows all of them.")
        yield found


def _not_replayed(settings: PulsarSettings, reason: str | None) -> Iterator[DeadLetter]:
    """Yield the letters not replayed yet. Reads all letters twice, so that none has to be kept in memory."""
    done = {letter.message_id for letter in letter_box.read_all(settings) if letter.reason == REPLAYED}
    for letter in letter_box.read_all(settings):
        if letter.reason != REPLAYED and letter.id not in done and reason in (None, letter.reason):
            yield letter


@click.group()
@click.option("--demo", "of_demo", is_flag=True, help="Use the demonstration's broker and database.")
def main(of_demo: bool) -> None:
    """List and replay rows and messages that could not be stored."""
    if of_demo:
        try:
            enter_demo()
        except WrongUse as error:
            print(f"dead-letters: {error}", file=sys.stderr)
            sys.exit(2)


@main.command("list")
@click.option("--reason", help="Only this reason, for example price.")
@click.option("--limit", type=click.IntRange(1), default=NEWEST, show_default=True, help="Show the newest N.")
@click.option("--all", "everything", is_flag=True, help="Include letters that were replayed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@program("dead-letters")
def list_(reason: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List what was refused and why, oldest first."""
    found = read(load(PulsarSettings), limit=limit, seconds=60.0)
    letters = [one for one in found if (everything or not one.replayed) and reason in (None, one.reason)]
    if as_json:
        for one in letters:
            click.echo(json.dumps({**vars(one), "payload": one.content}))
        return
    table = Table(box=None)
    for name in ("id", "at (UTC)", "from", "row", "reason", "detail"):
        table.add_column(name, no_wrap=name != "detail", overflow="fold")  # ids must stay copyable
    for one in letters:
        place = one.topic.removeprefix("persistent://").split("/", 1)[-1]
        row = "" if one.row is None else str(one.row)
        cells = (one.id, f"{one.at:%m-%d %H:%M:%S}", place[:80], row, one.reason[:40], one.detail[:80])
        table.add_row(*(Text(printable(cell)) for cell in cells))  # not as markup: the content is untrusted
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=250)
    console.print(table if letters else "No dead letters.")
    if len(found) == limit:
        console.print(f"Showing the newest {limit}; use --limit for more.")


@main.command()
@click.argument("letter_id")
@program("dead-letters")
def show(letter_id: str) -> None:
    """Show one letter in full."""
    (one,) = _chosen(load(PulsarSettings), (letter_id,))
    for name in ("id", "topic", "message_id", "row", "reason", "detail"):
        click.echo(f"{name:<11} {printable(str(getattr(one, name)))}")
    click.echo(f"{'at':<11} {one.at.astimezone(UTC).isoformat()}")
    click.echo(json.dumps(one.content, indent=2))


@main.command()
@click.argument("letter_ids", nargs=-1)
@click.option("--reason", help="Replay all letters with this reason.")
@click.option("--all", "everything", is_flag=True, help="Replay all letters not replayed yet.")
@program("dead-letters")
def replay(letter_ids: tuple[str, ...], reason: str | None, everything: bool) -> int:
    """Send letters to their topics again, once the cause is fixed. Rows that are stored already are not duplicated."""
    settings = load(PulsarSettings)
    if not letter_ids and reason is None and not everything:
        raise WrongUse("give letter ids, --reason or --all.")
    sender = Replay(settings, Stop().listen())
    sent = failed = 0
    try:
        reason = None if everything else reason
        for one in _chosen(settings, letter_ids) if letter_ids else _not_replayed(settings, reason):
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

"""What could not be stored: look at it, and send it again once the cause is mended. `python -m consumers.dead_letters`

A letter is known by `<program>/<ledger>:<entry>:<batch>`, its place on `dead-letters/<program>`. Topics are logs, so
nothing is taken out: what was sent again is noted by a further letter with the reason `replayed`, and `list` leaves
both out. Letters live as long as the topic keeps them (7 days).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import pulsar
from rich.console import Console
from rich.table import Table

import schemas
from pipeline.admin import Admin
from pipeline.bus import Bus, new_client
from pipeline.database import connect
from pipeline.demo import enter_demo
from pipeline.errors import BadData, Refused, Unavailable, WrongUse
from pipeline.ledger import from_us
from pipeline.process import Stop, now_us, program
from pipeline.settings import DatabaseSettings, PulsarSettings, load
from pipeline.topics import NAMESPACES, venue_and_product
from schemas.columns import decode_quote_hour

REPLAYED = "replayed"
NAMESPACE = "dead-letters"
_SCHEMAS = {space.name: space.schema for space in NAMESPACES if space.schema}
_MESSAGE_ID = re.compile(r"\((-?\d+),(-?\d+),(-?\d+),(-?\d+)\)")  # ledger, entry, partition, batch


@dataclass(frozen=True)
class DeadLetter:
    """A record of `dead_letter.avsc` with its own place, `id`."""

    id: str
    topic: str
    message_id: str
    row: int | None
    reason: str
    detail: str
    payload: bytes
    at_us: int
    replayed: bool = False

    @property
    def source(self) -> str:
        return self.id.split("/", 1)[0]

    @property
    def at(self) -> datetime:
        return from_us(self.at_us)

    @property
    def content(self) -> Any:
        """The payload for a person: the row, the decoded message, or the start of the bytes."""
        with contextlib.suppress(ValueError):
            return json.loads(self.payload)
        with contextlib.suppress(Exception):  # whatever a decoder raises on foreign bytes
            schema = _SCHEMAS[_namespace(self.topic)]
            return (
                decode_quote_hour(self.payload).header if schema == "quotes" else schemas.decode(schema, self.payload)
            )
        return repr(self.payload[:400])


def _namespace(topic: str) -> str:
    parts = topic.removeprefix("persistent://").split("/")
    return parts[1] if topic.startswith("persistent://") and len(parts) == 3 else ""


def topics(settings: PulsarSettings) -> list[str]:
    """Full names of the topics with dead letters. Raises `Unavailable`."""
    try:
        return Admin(settings).topics(f"{settings.tenant}/{NAMESPACE}")
    except Refused:  # no such namespace yet
        return []


def read(settings: PulsarSettings, client: pulsar.Client | None = None) -> list[DeadLetter]:
    """Every letter there is, oldest first, with whether it was sent again. Raises `Unavailable`."""
    own = client or new_client(settings)
    try:
        found = [letter for topic in topics(settings) for letter in _letters(own, topic)]
    except pulsar.PulsarException as error:
        raise Unavailable(f"the broker does not answer: {error}") from None
    finally:
        if client is None:
            own.close()
    done = {letter.message_id for letter in found if letter.reason == REPLAYED}
    letters = [
        DeadLetter(**{**vars(letter), "replayed": letter.id in done}) for letter in found if letter.reason != REPLAYED
    ]
    return sorted(letters, key=lambda letter: letter.at_us)


def _letters(client: pulsar.Client, topic: str) -> Iterator[DeadLetter]:
    reader = client.create_reader(topic, pulsar.MessageId.earliest, schema=schemas.registered("dead_letter"))
    try:
        while reader.has_message_available():
            message = reader.read_next(timeout_millis=5000)
            place = message.message_id()
            name = f"{topic.rsplit('/', 1)[-1]}/{place.ledger_id()}:{place.entry_id()}:{place.batch_index()}"
            record = message.value()
            yield DeadLetter(name, **{key: record[key] for key in record if key != "source"})
    finally:
        reader.close()


class Replay:
    """Sends letters again to the topics that their rows came from."""

    def __init__(self, settings: PulsarSettings, stop: Stop) -> None:
        self._settings = settings
        self._bus = Bus(settings, stop)

    def send(self, letter: DeadLetter) -> str:
        """Publish and wait for the broker; returns what was sent. Raises `Refused` for what cannot be sent again."""
        schema = _SCHEMAS.get(_namespace(letter.topic))
        if schema is None:
            raise Refused("it is a frame of the venue and not of a topic: the gap filler fetches what it held")
        record, what = self._record(letter, schema)
        self._publish(letter.topic, schema, record)
        note = {
            "source": letter.source, "topic": letter.topic, "message_id": letter.id, "row": letter.row,
            "reason": REPLAYED, "detail": what, "payload": b"", "at_us": now_us(),
        }  # fmt: skip
        self._publish(f"persistent://{self._settings.tenant}/{NAMESPACE}/{letter.source}", "dead_letter", note)
        return what

    def _publish(self, topic: str, schema: str, record: dict[str, Any] | bytes) -> None:
        topic = re.sub(r"-partition-\d+$", "", topic)
        publisher = self._bus.publisher_to(topic, schema, f"replay-{now_us()}", whole=schema == "quotes")
        publisher.send(record, wait=True)
        if not publisher.flush(30):
            raise Unavailable(f"the broker did not take the message for {topic} within 30 s")
        publisher.close()

    def _record(self, letter: DeadLetter, schema: str) -> tuple[dict[str, Any] | bytes, str]:
        if letter.row is None:
            return letter.payload, "the message"
        if schema == "ticker":
            return json.loads(letter.payload), "the ticker"
        if schema == "trades":
            venue, product = venue_and_product(letter.topic)
            return {
                "venue": venue, "product_id": product, "asset_class": _asset_class(venue, product), "origin": "repair",
                "received_at_us": now_us(), "trades": [json.loads(letter.payload)], "holes": [],
            }, "the trade"  # fmt: skip
        return self._original(letter), "the message that held the row"

    def _original(self, letter: DeadLetter) -> bytes:
        """The whole message from its topic, where that still has it."""
        match = _MESSAGE_ID.fullmatch(letter.message_id)
        if match is not None:
            ledger, entry, partition, batch = map(int, match.groups())
            place = pulsar.MessageId(partition, ledger, entry, batch)
            reader = self._bus.client.create_reader(letter.topic, place, start_message_id_inclusive=True)
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
        row = conn.execute(
            "SELECT asset_class FROM instruments WHERE venue = %s AND product_id = %s", (venue, product)
        ).fetchone()
    return str(row[0]) if row else "crypto"


def _chosen(letters: list[DeadLetter], ids: tuple[str, ...]) -> list[DeadLetter]:
    by_id = {letter.id: letter for letter in letters}
    unknown = [name for name in ids if name not in by_id]
    if unknown:
        raise WrongUse(f"no dead letter {unknown[0]}; `list` shows what there is.")
    return [by_id[name] for name in ids]


@click.group()
@click.option("--demo", "of_demo", is_flag=True, help="Of the demonstration.")
def main(of_demo: bool) -> None:
    """Rows and messages that could not be stored."""
    if of_demo:
        enter_demo()


@main.command("list")
@click.option("--reason", help="Only this reason, such as price.")
@click.option("--all", "everything", is_flag=True, help="Also what was sent again already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@program("dead-letters")
def list_(reason: str | None, everything: bool, as_json: bool) -> None:
    """What was refused and why, oldest first."""
    letters = [
        one for one in read(load(PulsarSettings))
        if (everything or not one.replayed) and reason in (None, one.reason)
    ]  # fmt: skip
    if as_json:
        for one in letters:
            click.echo(json.dumps({**vars(one), "payload": one.content}, default=str))
        return
    table = Table(box=None)
    for name in ("id", "at (UTC)", "from", "row", "reason", "detail"):
        table.add_column(name, no_wrap=name != "detail", overflow="fold")  # an id is there to be copied
    for one in letters:
        place = one.topic.removeprefix("persistent://").split("/", 1)[-1]
        row = "" if one.row is None else str(one.row)
        table.add_row(one.id, f"{one.at:%m-%d %H:%M:%S}", place, row, one.reason, one.detail[:80])
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=250)
    console.print(table if letters else "No dead letters.")


@main.command()
@click.argument("letter_id")
@program("dead-letters")
def show(letter_id: str) -> None:
    """One letter, whole."""
    (one,) = _chosen(read(load(PulsarSettings)), (letter_id,))
    for name in ("id", "topic", "message_id", "row", "reason", "detail", "replayed"):
        click.echo(f"{name:<11} {getattr(one, name)}")
    click.echo(f"{'at':<11} {one.at.astimezone(UTC).isoformat()}")
    click.echo(json.dumps(one.content, indent=2, default=str))


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
    letters = read(settings)
    chosen = _chosen(letters, letter_ids) or [
        one for one in letters if not one.replayed and (everything or one.reason == reason)
    ]
    sender = Replay(settings, Stop().listen())
    failed = 0
    try:
        for one in chosen:
            try:
                click.echo(f"{one.id}: sent {sender.send(one)} to {one.topic}")
            except (Refused, BadData) as error:
                failed += 1
                click.echo(f"{one.id}: not sent, {error}")
    finally:
        sender.close()
    click.echo(f"{len(chosen) - failed} sent again, {failed} not.")
    return 1 if failed else 0


if __name__ == "__main__":
    main()

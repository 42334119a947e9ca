"""`python -m consumers.trades`: store trades in `trades`, with candles and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

import click
import numpy as np

from consumers import fields
from consumers.instruments import Instruments
from consumers.prepared_trades import PreparedTrades
from consumers.sink import DeadLetters, MessageSlice, hold_nothing, read_each
from consumers.subscription import Message
from consumers.trade_block import MessageTrades, TradeBlock
from consumers.validation import check_address
from consumers.writer import run
from pipeline.core.errors import BadData
from pipeline.core.runtime import program
from schemas.records import TradesMessage, decode_as
from schemas.trade_columns import LEAST_MESSAGES, names_in, read_columns

_NO_NAMES = ("", "", "")  # of messages that are read one by one


class Trades:
    """The sink of `trades.avsc`: one source frame per message. Its findings count as rows after the trades."""

    namespace = "trades"
    schema = "trades"
    divisible = True
    hold = staticmethod(hold_nothing)

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[MessageTrades, int]:
        """See `Sink.read`."""
        record, rows = _decoded(message)
        return MessageTrades(TradeBlock.of_records([record]), 0, record.holes), rows

    def _read_each(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """Decode messages one by one, and put them into one block."""
        refused = DeadLetters()
        parts = read_each(_decoded, messages, refused)
        records: list[TradesMessage] = [part.record for part in parts]
        try:
            block = TradeBlock.of_records(records)
        except OverflowError:  # whose number that is shows when each has a block of its own
            return read_each(self.read, messages, letters)
        letters.take(refused)
        for number, (part, record) in enumerate(zip(parts, records, strict=True)):
            part.record = MessageTrades(block, number, record.holes)
        return parts

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """See `Sink.read_all`. Plain messages are decoded all at once, the others one by one."""
        if len(messages) < LEAST_MESSAGES:
            return self._read_each(messages, letters)
        columns = read_columns([message.data if message.layout is None else b"" for message in messages])
        # Few names for thousands of messages: the work on each message is left to functions in C.
        headers = list(zip([message.topic for message in messages], columns.names, strict=True))
        place = {header: number for number, header in enumerate(dict.fromkeys(headers))}
        found = [_names(topic, header) if header else None for topic, header in place]
        name = np.array([place[header] for header in headers])
        known = np.array([names is not None for names in found])
        block = TradeBlock.of_columns(columns, [names or _NO_NAMES for names in found], name)
        plain = columns.plain & fields.TIME.good(columns.received_at_us) & known[name]
        records = map(MessageTrades, repeat(block), range(len(messages)))
        parts = list(map(MessageSlice, messages, records, repeat(0), columns.count.tolist()))
        if plain.all():
            return parts
        others = self._read_each([m for m, good in zip(messages, plain.tolist(), strict=True) if not good], letters)
        odd = {id(part.message): part for part in others}
        mixed = [part if good else odd.get(id(part.message)) for part, good in zip(parts, plain.tolist(), strict=True)]
        return [part for part in mixed if part]  # the others are letters

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTrades:
        return PreparedTrades(parts, self.instruments)


def _decoded(message: Message) -> tuple[TradesMessage, int]:
    """Return the message and its number of rows. Raises `BadData` to refuse it."""
    record = decode_as(TradesMessage, message.data, message.layout)
    check_address(message.topic, record.venue, record.product_id, record.asset_class)
    fields.check("trades", record)
    return record, len(record.trades) + len(record.holes)


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def _names(topic: str, header: bytes) -> tuple[str, str, str] | None:
    """Decode venue, product and asset class; None if they do not match the topic, so that `read` reports the error."""
    try:
        names = names_in(header)
        check_address(topic, *names)
    except (BadData, UnicodeDecodeError):
        return None
    return names


@click.command()
@program("trades-writer")
def main() -> int:
    """Store trades from the topics `trades/*`; runs until stopped."""
    return run("trades-writer", [Trades()])


if __name__ == "__main__":
    main()

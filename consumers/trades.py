"""`python -m consumers.trades`: store trades in `trades`, with candles and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

import click
import numpy as np

from consumers import few_trades
from consumers.instruments import Instruments
from consumers.prepared_trades import PreparedTrades
from consumers.sink import DeadLetters, MessageSlice, hold_nothing, read_each
from consumers.subscription import Message
from consumers.trade_block import MessageTrades, TradeBlock
from consumers.writer import run
from pipeline.broker.topics import check_address
from pipeline.core.errors import BadData
from pipeline.core.runtime import program
from schemas import fields
from schemas.records import TradesMessage, decode_as
from schemas.trade_columns import names_in, read_columns
from venues.registry import check_kind

_NO_NAMES = ("", "", "")  # of messages that are read one by one


class Trades:
    """The sink of `trades.avsc`: one source frame per message. Its findings count as rows, after its trades."""

    namespace = "trades"
    schema = "trades"
    divisible = True
    hold = staticmethod(hold_nothing)

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[TradesMessage, int]:
        """See `Sink.read`."""
        record = decode_as(TradesMessage, message.data, message.layout)
        check_address(message.topic, *record.names)
        check_kind(self.namespace, record.venue)
        fields.check("trades", record)
        return record, len(record.trades) + len(record.holes)

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """See `Sink.read_all`. In a large batch, plain messages are decoded together, the others one by one."""
        if len(messages) <= few_trades.MOST_TRADES:
            return read_each(self.read, messages, letters)
        columns = read_columns([message.data if message.layout is None else b"" for message in messages])
        # There are few names among thousands of messages, and the work per message is left to functions in C.
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
        odd = [message for message, good in zip(messages, plain.tolist(), strict=True) if not good]
        others = {id(part.message): part for part in read_each(self.read, odd, letters)}
        mixed = [
            part if good else others.get(id(part.message)) for part, good in zip(parts, plain.tolist(), strict=True)
        ]
        return [part for part in mixed if part]  # without refused messages, which are letters

    def prepare(self, parts: Sequence[MessageSlice]) -> few_trades.FewTrades | PreparedTrades:
        return few_trades.checked(parts, self.instruments) or PreparedTrades(parts, self.instruments)


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def _names(topic: str, header: bytes) -> tuple[str, str, str] | None:
    """Decode venue, product and asset class; None if they do not match the topic, so that `read` reports the error."""
    try:
        names = names_in(header)
        check_address(topic, *names)
        check_kind(Trades.namespace, names[0])
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

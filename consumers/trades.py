"""`python -m consumers.trades`: store trades in `trades`, with candles and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import click
import numpy as np

from consumers import fields
from consumers.instruments import Instruments
from consumers.prepared_trades import PreparedTrades
from consumers.sink import (
    USUAL_BATCH_BYTES,
    DeadLetters,
    MessageSlice,
    hold_nothing,
    read_each,
)
from consumers.subscription import Message
from consumers.trade_block import MessageTrades, TradeBlock
from consumers.validation import check_address
from consumers.writer import run
from pipeline.core.errors import BadData
from pipeline.core.products import ORIGINS
from pipeline.core.runtime import program
from schemas.records import TradesMessage, decode_as
from schemas.trade_columns import LEAST_MESSAGES, names_in, read_columns


class Trades:
    """The sink of `trades.avsc`: one source frame per message. Its findings count as rows after the trades."""

    namespace = "trades"
    schema = "trades"
    divisible = True
    batch_bytes, patience_s = USUAL_BATCH_BYTES, 0.0
    hold = staticmethod(hold_nothing)

    def __init__(self) -> None:
        self.instruments = Instruments()

    def read(self, message: Message) -> tuple[MessageTrades, int]:
        """See `Sink.read`."""
        record = decode_as(TradesMessage, message.data, message.layout)
        check_address(message.topic, record.venue, record.product_id, record.asset_class)
        fields.check("trades", record)
        names = record.venue, record.product_id, record.asset_class
        block = TradeBlock.of_rows(record.trades)
        made = MessageTrades(names, record.origin, record.received_at_us, block, 0, len(record.trades), record.holes)
        return made, made.rows

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """See `Sink.read_all`. Plain messages are decoded all at once, the others one by one."""
        if len(messages) < LEAST_MESSAGES:
            return read_each(self.read, messages, letters)
        columns = read_columns([message.data if message.layout is None else b"" for message in messages])
        block = TradeBlock.of_columns(columns)
        plain = (columns.plain & fields.TIME.good(columns.received_at_us)).tolist()
        first = (np.cumsum(columns.count) - columns.count).tolist()
        numbers = columns.origin.tolist(), columns.received_at_us.tolist(), first, columns.count.tolist()
        found = zip(messages, plain, columns.names, *numbers, strict=True)
        parts: list[MessageSlice] = []
        for message, good, header, origin, received_us, row, count in found:
            if good and (names := _names(message.topic, header)):
                made = MessageTrades(names, ORIGINS[origin], received_us, block, row, count)
                parts.append(MessageSlice(message, made, 0, count))
            else:
                parts += read_each(self.read, [message], letters)
        return parts

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedTrades:
        return PreparedTrades(parts, self.instruments)


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

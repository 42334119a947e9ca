"""Live trades, candles and gaps for programs: each exactly once, resuming where the caller left off.

    from pipeline.stream import stream

    with stream("kraken", "BTC-USD", kinds=("trades", "candles_1m", "gaps"), after=kept) as events:
        for event in events:
            kept = event.position  # a str: pass it as `after` to resume behind this event, later or in another process

`astream` is the same for asyncio. Lost connections are reopened internally, without losing or repeating an event.
"""

from pipeline.stream.events import CandleEvent, Event, GapEvent, TradeEvent
from pipeline.stream.position import PositionLost
from pipeline.stream.program import Stream, astream, stream

__all__ = ["CandleEvent", "Event", "GapEvent", "PositionLost", "Stream", "TradeEvent", "astream", "stream"]

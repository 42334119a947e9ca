"""Live trades, candles and gaps for programs, each once, from where the caller left off.

    from pipeline.stream import stream

    with stream("kraken", "BTC-USD", kinds=("trades", "candles_1m", "gaps"), after=kept) as events:
        for event in events:
            kept = event.position  # a text; hand it over to go on behind this event, in a day or in another process

`astream` is the same for asyncio. A lost connection is made again inside; nothing is lost or given twice meanwhile.
"""

from pipeline.stream.events import CandleEvent, Event, GapEvent, TradeEvent
from pipeline.stream.position import PositionLost
from pipeline.stream.program import Stream, astream, stream

__all__ = ["CandleEvent", "Event", "GapEvent", "PositionLost", "Stream", "TradeEvent", "astream", "stream"]

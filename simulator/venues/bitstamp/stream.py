"""Bitstamp's WebSocket: `live_trades_<pair>` and `order_book_<pair>`.

    {"event":"bts:subscribe","data":{"channel":"live_trades_btcusd"}}
    {"event":"bts:subscription_succeeded","channel":"live_trades_btcusd","data":{}}
    {"data":{"id":212337562,"timestamp":"1643643584","amount":0.0028,"amount_str":"0.00280000","price":38416,
     "price_str":"38416","type":0,"microtimestamp":"1643643584587000","buy_order_id":1,"sell_order_id":2},
     "channel":"live_trades_btcusd","event":"trade"}
    {"event":"bts:heartbeat","channel":"","data":{"status":"success"}}

A frame is one trade. A book has 100 levels a side, of which three are made up here. No trades of the past are sent.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from simulator.market import SECOND_NS
from simulator.stream import Connection, FrameSource, StreamVenue
from simulator.tape import Trade, fixed
from simulator.world import World

TRADES, BOOK = "live_trades", "order_book"
LEVELS = 3


def _frame(event: str, channel: str, data: Any) -> str:
    return json.dumps({"event": event, "channel": channel, "data": data}, separators=(",", ":"))


def trade_frame(world: World, source: FrameSource, trade: Trade) -> str:
    """Return the frame of one trade."""
    product = source.tape.product
    price, amount = fixed(trade.price, product.price_decimals), fixed(trade.quantity, product.quantity_decimals)
    data = {
        "id": world.trade_id(product, trade.trade_id),
        "timestamp": str(trade.ts_ns // SECOND_NS),
        "amount": float(amount),
        "amount_str": amount,
        "price": float(price),
        "price_str": price,
        "type": 0 if trade.buy else 1,
        "microtimestamp": str(trade.ts_ns // 1000),
        "buy_order_id": abs(trade.order) * 2,
        "sell_order_id": abs(trade.order) * 2 + 1,
    }
    return _frame("trade", f"{TRADES}_{product.symbol.lower()}", data)


def book_frame(source: FrameSource, now_ns: int) -> str:
    """Return the frame of the order book at a time."""
    tape, product = source.tape, source.tape.product
    (bid, ask), sizes = tape.bid_ask(now_ns), tape.bid_ask_quantity(now_ns)
    size_texts = [fixed(size, product.quantity_decimals) for size in sizes]
    levels = [
        [[fixed(max(1, best + step * level), product.price_decimals), size] for level in range(LEVELS)]
        for best, step, size in ((bid, -1, size_texts[0]), (ask, 1, size_texts[1]))
    ]
    times = {"timestamp": str(now_ns // SECOND_NS), "microtimestamp": str(now_ns // 1000)}
    return _frame("data", f"{BOOK}_{product.symbol.lower()}", {**times, "bids": levels[0], "asks": levels[1]})


class BitstampStream(StreamVenue):
    """WebSocket endpoint."""

    venue = "bitstamp"
    connects_allowed = (1.0, 300.0)
    too_many_messages = _frame("bts:error", "", {"code": 4000, "message": "Too many messages."})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._book_due_ns = 0
        self._ending: set[asyncio.Task[None]] = set()

    def on_message(self, connection: Connection, text: str) -> None:
        try:
            request = json.loads(text)
            event, name = request["event"], request.get("data", {}).get("channel", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            event, name = "", ""
        if event == "bts:heartbeat":
            connection.send_control(_frame(event, "", {"status": "success"}))
            return
        channel, _, pair = str(name).rpartition("_")
        symbol = pair.upper()
        known = channel in (TRADES, BOOK) and symbol in {p.symbol for p in self.world.products(self.venue)}
        if event not in ("bts:subscribe", "bts:unsubscribe") or not known:
            connection.send_control(_frame("bts:error", "", {"code": None, "message": "Bad subscription string."}))
            return
        if self.world.faults.active(self.venue, "ignore", symbol, channel):
            return
        subscribed = connection.subscribed.setdefault(channel, {})
        key = (connection, channel, symbol)
        self.world.muted.discard(key)
        if event == "bts:unsubscribe":
            subscribed.pop(symbol, None)
            connection.send_control(_frame("bts:unsubscription_succeeded", name, {}))
            return
        subscribed[symbol] = {}
        if self.world.faults.take(self.venue, "mute", symbol):
            self.world.muted.add(key)
        connection.send_control(_frame("bts:subscription_succeeded", name, {}))

    def publish(self, now_ns: int) -> None:
        due, listeners = self.due(now_ns), list(self.connections)
        if not listeners:
            return
        if self.world.faults.take(self.venue, "goodbye"):
            self._ask_to_reconnect(listeners)
        for source, orders in due:
            symbol = source.tape.product.symbol
            wanting = [c for c in listeners if self._wants(c, TRADES, symbol)]
            for trade in (trade for order in orders for trade in order):
                frame = trade_frame(self.world, source, trade) if wanting else ""
                for connection in wanting:
                    connection.send_data(frame, TRADES, symbol)
        if now_ns >= self._book_due_ns:
            self._book_due_ns = now_ns + SECOND_NS // 5
            for symbol, source in self.sources.items():
                wanting = [c for c in listeners if self._wants(c, BOOK, symbol)]
                frame = book_frame(source, now_ns) if wanting else ""
                for connection in wanting:
                    connection.send_data(frame, BOOK, symbol)

    @staticmethod
    def _wants(connection: Connection, channel: str, symbol: str) -> bool:
        return symbol in connection.subscribed.get(channel, ()) and not connection.muted(channel, symbol)

    def _ask_to_reconnect(self, listeners: list[Connection]) -> None:
        """Ask the client to reconnect and disconnect it a second later."""

        async def end(connection: Connection) -> None:
            await asyncio.sleep(1.0)
            await connection.socket.close()

        for connection in listeners:
            connection.send_control(_frame("bts:request_reconnect", "", ""))
            task = asyncio.create_task(end(connection))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

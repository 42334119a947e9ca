"""Binance spot's market streams at `/ws`: SUBSCRIBE by name of stream, `trade`, `bookTicker`, `miniTicker`, pings.

    {"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}
    {"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}
    {"e":"24hrMiniTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025","o":"0.0010","h":"0.0025","l":"0.0010",
     "v":"10000","q":"18"}
    {"result":null,"id":1}

A frame is one trade. `?timeUnit=MICROSECOND` gives times in microseconds. As at the venue a symbol that does not exist
is acknowledged like any other and never heard of again, and nothing is sent before something happens.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from weakref import WeakKeyDictionary

from simulator.limits import TokenBucket
from simulator.market import SECOND_NS
from simulator.stream import Connection, FrameSource, StreamVenue
from simulator.tape import Tape, Trade, fixed
from simulator.venues.binance.trades import NS_OF_MS, NS_OF_US, price_and_sizes

CHANNELS = ("trade", "bookTicker", "miniTicker")
PING_EVERY_S = 20.0
MAX_STREAMS = 1024
MAX_PER_S = 5.0


def trade_frame(tape: Tape, trade: Trade, event: int, at: int) -> str:
    """Return a trade frame; `event` and `at` are times in the connection's unit."""
    price, quantity, _ = price_and_sizes(tape, trade)
    maker = "false" if trade.buy else "true"
    return (
        f'{{"e":"trade","E":{event},"s":"{tape.product.symbol}","t":{trade.trade_id},"p":"{price}","q":"{quantity}",'
        f'"T":{at},"m":{maker},"M":true}}'
    )


def book_ticker_frame(source: FrameSource, now_ns: int) -> str:
    """Return best bid and ask at a time; `u` counts the moves of the tape's quotes."""
    tape, product = source.tape, source.tape.product
    scale = 10 ** (8 - product.price_decimals)
    bid, ask = (fixed(price * scale, 8) for price in tape.bid_ask(now_ns))
    bid_size, ask_size = (fixed(size, 8) for size in tape.bid_ask_quantity(now_ns))
    number = now_ns // (SECOND_NS // 10)
    return f'{{"u":{number},"s":"{product.symbol}","b":"{bid}","B":"{bid_size}","a":"{ask}","A":"{ask_size}"}}'


def mini_ticker_frame(source: FrameSource, now_ns: int, event: int) -> str:
    """Return a mini ticker; its 24-hour figures are merely plausible."""
    tape, product = source.tape, source.tape.product
    scale = 10 ** (8 - product.price_decimals)
    last, before = source.last_price * scale, tape.bid_ask(now_ns - 86_400 * SECOND_NS)[0] * scale
    volume = int(product.rate * 86_400 * product.typical_quantity * 10**8)
    fields = {
        "e": "24hrMiniTicker",
        "E": event,
        "s": product.symbol,
        "c": fixed(last, 8),
        "o": fixed(before, 8),
        "h": fixed(max(last, before), 8),
        "l": fixed(min(last, before), 8),
        "v": fixed(volume, 8),
        "q": fixed(volume * last // 10**8, 8),
    }
    return json.dumps(fields, separators=(",", ":"))


class BinanceStream(StreamVenue):
    """WebSocket endpoint. A client that sends more than five messages a second, pongs included, is disconnected."""

    venue = "binance"
    connects_allowed = (1.0, 300.0)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._second_due_ns = self._book_due_ns = 0
        self._last_book: dict[str, tuple[int, int]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._buckets: WeakKeyDictionary[Connection, TokenBucket] = WeakKeyDictionary()

    def on_connect(self, connection: Connection) -> list[asyncio.Task[None]]:
        async def pings() -> None:
            while True:
                await asyncio.sleep(PING_EVERY_S)
                await connection.socket.ping(str(self.world.now_ns() // NS_OF_MS).encode())

        return [asyncio.create_task(pings())]

    def _count_message(self, connection: Connection, text: str) -> None:
        endpoint = self.world.stats.endpoint(self.venue, "websocket-messages")
        endpoint.count()
        if self._buckets.setdefault(connection, TokenBucket(MAX_PER_S, MAX_PER_S)).take():
            self.on_message(connection, text)
        else:
            endpoint.refused += 1
            endpoint.violations += 1
            connection.cut()

    # -- requests -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _refuse(connection: Connection, text: str, number: Any) -> None:
        body = {"code": 2, "msg": f"Invalid request: {text}"} | ({} if number is None else {"id": number})
        connection.send_control(json.dumps(body, separators=(",", ":")))

    def on_message(self, connection: Connection, text: str) -> None:
        try:
            request = json.loads(text)
            method, names, number = request["method"], request.get("params"), request.get("id")
        except (ValueError, KeyError, TypeError, AttributeError):
            connection.send_control('{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}')
            return
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return self._refuse(connection, f"unknown variant `{method}`", number)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return self._refuse(connection, "params must be a list of streams", number)
        streams = [(symbol.upper(), channel) for symbol, _, channel in (name.partition("@") for name in names)]
        if sum(len(products) for products in connection.subscribed.values()) + len(streams) > MAX_STREAMS:
            return self._refuse(connection, "too many parameters", number)
        if any(self.world.faults.active(self.venue, "ignore", *stream) for stream in streams):
            return None
        for symbol, channel in streams:
            self._set(connection, symbol, channel, method == "SUBSCRIBE")
        connection.send_control(json.dumps({"result": None, "id": number}, separators=(",", ":")))

    def _set(self, connection: Connection, symbol: str, channel: str, wanted: bool) -> None:
        subscribed = connection.subscribed.setdefault(channel, {})
        if not wanted:
            subscribed.pop(symbol, None)
            return
        subscribed[symbol] = {}
        key = (connection, channel, symbol)
        self.world.muted.discard(key)
        if channel != "miniTicker" and self.world.faults.take(self.venue, "mute", symbol):
            self.world.muted.add(key)

    # -- what is sent by itself ---------------------------------------------------------------------------------------

    def _time(self, connection: Connection, ts_ns: int) -> int:
        unit = connection.request.query.get("timeUnit", "MILLISECOND").upper()
        return ts_ns // (NS_OF_US if unit == "MICROSECOND" else NS_OF_MS)

    def publish(self, now_ns: int) -> None:
        due = self.due(now_ns)
        listeners = list(self.connections)
        if not listeners:
            return
        if fault := self.world.faults.take(self.venue, "goodbye"):
            self._say_goodbye(listeners, now_ns, float(fault.options.get("notice", 1.0)))
        for source, orders in due:
            tape, symbol = source.tape, source.tape.product.symbol
            trading = [c for c in listeners if self._wants(c, "trade", symbol)]
            for trade in (trade for order in orders for trade in order):
                for connection in trading:
                    times = self._time(connection, now_ns), self._time(connection, trade.ts_ns)
                    connection.send_data(trade_frame(tape, trade, *times), "trade", symbol)
        if now_ns >= self._book_due_ns:
            self._book_due_ns = now_ns + SECOND_NS // 10
            self._send_books(listeners, now_ns)
        if now_ns >= self._second_due_ns:
            self._second_due_ns = now_ns + SECOND_NS
            for connection in listeners:
                for symbol in connection.subscribed.get("miniTicker", ()):
                    if symbol in self.sources:
                        frame = mini_ticker_frame(self.sources[symbol], now_ns, self._time(connection, now_ns))
                        connection.send_heartbeat(frame)

    @staticmethod
    def _wants(connection: Connection, channel: str, symbol: str) -> bool:
        return symbol in connection.subscribed.get(channel, ()) and not connection.muted(channel, symbol)

    def _send_books(self, listeners: list[Connection], now_ns: int) -> None:
        for symbol, source in self.sources.items():
            wanting = [c for c in listeners if self._wants(c, "bookTicker", symbol)]
            quote = source.tape.bid_ask(now_ns) if wanting else None
            if quote is not None and self._last_book.get(symbol) != quote:
                self._last_book[symbol] = quote
                frame = book_ticker_frame(source, now_ns)
                for connection in wanting:
                    connection.send_data(frame, "bookTicker", symbol)

    def _say_goodbye(self, listeners: list[Connection], now_ns: int, notice_s: float) -> None:
        """Announce the end as the venue does after 24 hours, then close with a close frame."""

        async def end(connection: Connection) -> None:
            await asyncio.sleep(notice_s)
            await connection.socket.close()

        for connection in listeners:
            connection.send_control(f'{{"e":"serverShutdown","E":{self._time(connection, now_ns)}}}')
            task = asyncio.create_task(end(connection))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

"""Coinbase Advanced Trade WebSocket: one channel per request, trades of 250 ms per frame, newest first, maker's side.

Formats as in `recordings/coinbase/advanced_trade_session_10s.jsonl`:

    {"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":[{"type":"update",
     "trades":[{"product_id":"BTC-USD","trade_id":"1068572091","price":"65083.67","size":"0.01034361",
     "time":"2026-08-09T21:05:48.167634Z","side":"SELL"}]}]}
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from simulator.candles import candles
from simulator.market import SECOND_NS
from simulator.stream import Connection, FrameSource, StreamVenue
from simulator.tape import Tape, Trade, trimmed
from simulator.times import rfc3339_go
from simulator.venues.coinbase.token import TokenError, Tokens

SUBSCRIBE_WITHIN_S = 5.0
BATCH_NS = SECOND_NS // 4
SNAPSHOT_TRADES = 100
SNAPSHOT_CANDLES = 100
CANDLE_S = 300
PRODUCT_CHANNELS = ("market_trades", "ticker", "ticker_batch", "candles")
PRIVATE_CHANNELS = ("user", "futures_balance_summary")
_BUSY_TRADES_PER_S = 20.0


def trade_json(tape: Tape, trade: Trade) -> str:
    """Return one element of `trades`; `side` is the resting order's, the opposite of the taker's."""
    product = tape.product
    return (
        f'{{"product_id":"{product.symbol}","trade_id":"{trade.trade_id}",'
        f'"price":"{trimmed(trade.price, product.price_decimals)}",'
        f'"size":"{trimmed(trade.quantity, product.quantity_decimals)}",'
        f'"time":"{rfc3339_go(trade.ts_ns)}","side":"{"SELL" if trade.buy else "BUY"}"}}'
    )


def trades_event(tape: Tape, trades: list[Trade], kind: str) -> str:
    """Return an event with `trades`, given oldest first, written newest first."""
    elements = ",".join(trade_json(tape, trade) for trade in reversed(trades))
    return f'{{"type":"{kind}","trades":[{elements}]}}'


def ticker_event(source: FrameSource, now_ns: int, kind: str) -> str:
    """Return a ticker: price and quotes are the tape's, figures over a day and a year are merely plausible."""
    tape, product = source.tape, source.tape.product
    decimals = product.price_decimals
    bid, ask = tape.bid_ask(now_ns)
    bid_quantity, ask_quantity = tape.bid_ask_quantity(now_ns)
    last = source.last_price
    before = tape.bid_ask(now_ns - 86400 * SECOND_NS)[0]
    volume = int(product.rate * 86400 * product.typical_quantity * 10**product.quantity_decimals)
    fields = {
        "type": "ticker",
        "product_id": product.symbol,
        "price": trimmed(last, decimals),
        "volume_24_h": trimmed(volume, product.quantity_decimals),
        "low_24_h": trimmed(min(last, before, bid), decimals),
        "high_24_h": trimmed(max(last, before, ask), decimals),
        "low_52_w": trimmed(min(last, before) * 7 // 10, decimals),
        "high_52_w": trimmed(max(last, before) * 13 // 10, decimals),
        "price_percent_chg_24_h": f"{100 * (last - before) / before:.14f}",
        "best_bid": trimmed(bid, decimals),
        "best_ask": trimmed(ask, decimals),
        "best_bid_quantity": trimmed(bid_quantity, product.quantity_decimals),
        "best_ask_quantity": trimmed(ask_quantity, product.quantity_decimals),
    }
    return f'{{"type":"{kind}","tickers":[{json.dumps(fields, separators=(",", ":"))}]}}'


def candles_event(tape: Tape, now_ns: int, kind: str, count: int) -> str:
    """Return the latest five-minute candles, oldest first, the running one last."""
    product = tape.product
    newest_s = now_ns // SECOND_NS // CANDLE_S * CANDLE_S
    elements = []
    for candle in candles(tape, newest_s - (count - 1) * CANDLE_S, newest_s + CANDLE_S, CANDLE_S, now_ns):
        fields = {
            "start": str(candle.start_s),
            "high": trimmed(candle.high, product.price_decimals),
            "low": trimmed(candle.low, product.price_decimals),
            "open": trimmed(candle.open, product.price_decimals),
            "close": trimmed(candle.close, product.price_decimals),
            "volume": trimmed(candle.volume, product.quantity_decimals),
            "product_id": product.symbol,
        }
        elements.append(json.dumps(fields, separators=(",", ":")))
    return f'{{"type":"{kind}","candles":[{",".join(elements)}]}}'


class CoinbaseStream(StreamVenue):
    """WebSocket endpoint. `sequence_num` counts all frames of a connection, also those that a fault then drops."""

    venue = "coinbase"
    connects_allowed = (8.0, 8.0)
    messages_allowed = (8.0, 8.0)
    too_many_messages = '{"type":"error","message":"too many requests"}'

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._tokens = Tokens(world.config.coinbase_public_key)
        self._waiting: dict[str, list[Trade]] = {}
        self._last_quote: dict[str, tuple[int, int]] = {}
        self._due_ns = {"batch": 0, "second": 0, "ticker_batch": 0, "busy": 0}

    def on_connect(self, connection: Connection) -> list[asyncio.Task[None]]:
        async def deadline() -> None:
            await asyncio.sleep(SUBSCRIBE_WITHIN_S)
            if not connection.subscribed:
                await connection.socket.close()

        return [asyncio.create_task(deadline())]

    # -- requests -----------------------------------------------------------------------------------------------------

    def _frame(self, connection: Connection, channel: str, event: str) -> str:
        number = connection.sequence
        connection.sequence += 1
        stamp = rfc3339_go(self.world.now_ns())
        return f'{{"channel":"{channel}","timestamp":"{stamp}","sequence_num":{number},"events":[{event}]}}'

    @staticmethod
    def _error(connection: Connection, message: str) -> None:
        connection.send_control(json.dumps({"type": "error", "message": message}, separators=(",", ":")))

    def on_message(self, connection: Connection, text: str) -> None:
        try:
            request = json.loads(text)
            kind, channel = request["type"], request.get("channel")
            products = request.get("product_ids") or []
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._error(connection, "failed to parse request")
        if kind not in ("subscribe", "unsubscribe"):
            return self._error(connection, f"unknown type {kind}")
        if not isinstance(channel, str) or channel not in (
            *PRODUCT_CHANNELS,
            *PRIVATE_CHANNELS,
            "heartbeats",
            "status",
        ):
            return self._error(connection, f"{channel} is not a valid channel")
        try:
            if "jwt" in request:
                self._tokens.check(request["jwt"])
            elif channel in PRIVATE_CHANNELS:
                raise TokenError("authentication failure")
        except TokenError as error:
            return self._error(connection, str(error))
        if kind == "unsubscribe":
            self._unsubscribe(connection, channel, products)
        else:
            self._subscribe(connection, channel, products)

    def _unsubscribe(self, connection: Connection, channel: str, products: list[str]) -> None:
        subscribed = connection.subscribed.get(channel, {})
        for product in products or list(subscribed):
            subscribed.pop(product, None)
        if not subscribed:
            connection.subscribed.pop(channel, None)
        self._subscriptions(connection)

    def _subscribe(self, connection: Connection, channel: str, products: list[str]) -> None:
        if channel not in PRODUCT_CHANNELS:
            connection.subscribed.setdefault(channel, {})[channel] = {}
            return self._subscriptions(connection)
        wanted = products or [product.symbol for product in self.world.products(self.venue)]
        wanted = [name for name in wanted if not self.world.faults.active(self.venue, "ignore", name, channel)]
        known = [name for name in wanted if self.world.tape(self.venue, name) is not None]
        for name in wanted:
            if name not in known:
                self._error(connection, f"failed to subscribe: {name} is not a valid product")
        if not known and wanted:
            return None
        for name in known:
            connection.subscribed.setdefault(channel, {})[name] = {}
            key = (connection, channel, name)
            self.world.muted.discard(key)
            if self.world.faults.take(self.venue, "mute", name):
                self.world.muted.add(key)
            else:
                event = self._snapshot(channel, name)
                connection.send_data(self._frame(connection, channel, event), channel, name)
        return self._subscriptions(connection)

    def _subscriptions(self, connection: Connection) -> None:
        listed = {channel: list(names) for channel, names in sorted(connection.subscribed.items())}
        event = json.dumps({"subscriptions": listed}, separators=(",", ":"))
        connection.send_control(self._frame(connection, "subscriptions", event))

    def _snapshot(self, channel: str, symbol: str) -> str:
        now_ns = self.world.now_ns()
        tape = self.world.tapes[self.venue, symbol]
        if channel == "candles":
            # A hundred candles of a load test's product would be millions of trades.
            count = SNAPSHOT_CANDLES if tape.product.rate < _BUSY_TRADES_PER_S else 2
            return candles_event(tape, now_ns, "snapshot", count)
        if channel != "market_trades":
            return ticker_event(self.sources[symbol], now_ns, "snapshot")
        # Up to where the updates go on, so that snapshot and stream meet without a hole.
        waiting = self._waiting.get(symbol)
        last = waiting[0].trade_id - 1 if waiting else self.sources[symbol].handed_out()
        return trades_event(tape, tape.trades(last - SNAPSHOT_TRADES + 1, last).rows(), "snapshot")

    # -- what is sent by itself ---------------------------------------------------------------------------------------

    def publish(self, now_ns: int) -> None:
        if not self.connections:
            self._waiting.clear()
        for source, orders in self.due(now_ns):
            self._waiting.setdefault(source.tape.product.symbol, []).extend(
                trade for order in orders for trade in order
            )
        if not self.connections or now_ns < self._due_ns["batch"]:
            return
        self._due_ns["batch"] = now_ns - now_ns % BATCH_NS + BATCH_NS
        for symbol, source in self.sources.items():
            trades = self._waiting.pop(symbol, [])
            if trades:
                self._send("market_trades", symbol, trades_event(source.tape, trades, "update"))
            quote = source.tape.bid_ask(now_ns)
            if (trades or self._last_quote.get(symbol) != quote) and self._wanted("ticker", symbol):
                self._last_quote[symbol] = quote
                self._send("ticker", symbol, ticker_event(source, now_ns, "update"))
        if now_ns >= self._due_ns["second"]:
            self._due_ns["second"] = now_ns - now_ns % SECOND_NS + SECOND_NS
            self._each_second(now_ns)

    def _each_second(self, now_ns: int) -> None:
        uptime_s = time.monotonic()
        whole, rest = divmod(now_ns, SECOND_NS)
        current = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(whole))}.{rest:09d} +0000 UTC m=+{uptime_s:.9f}"
        event = json.dumps({"current_time": current, "heartbeat_counter": int(uptime_s)}, separators=(",", ":"))
        for connection in self.connections:
            if "heartbeats" in connection.subscribed:
                connection.send_heartbeat(self._frame(connection, "heartbeats", event))
        batch, busy = now_ns >= self._due_ns["ticker_batch"], now_ns >= self._due_ns["busy"]
        for symbol, source in self.sources.items():
            # Making the running candle of a busy product costs milliseconds, so those are sent every 10 s.
            if self._wanted("candles", symbol) and (busy or source.tape.product.rate < _BUSY_TRADES_PER_S):
                self._send("candles", symbol, candles_event(source.tape, now_ns, "update", 1))
            if batch and self._wanted("ticker_batch", symbol):
                self._send("ticker_batch", symbol, ticker_event(source, now_ns, "update"))
        if batch:
            self._due_ns["ticker_batch"] = now_ns + 5 * SECOND_NS
        if busy:
            self._due_ns["busy"] = now_ns + 10 * SECOND_NS

    def _wanted(self, channel: str, symbol: str) -> bool:
        return any(symbol in connection.subscribed.get(channel, ()) for connection in self.connections)

    def _send(self, channel: str, symbol: str, event: str) -> None:
        for connection in list(self.connections):
            if symbol in connection.subscribed.get(channel, ()) and not connection.muted(channel, symbol):
                connection.send_data(self._frame(connection, channel, event), channel, symbol)

"""Kraken WebSocket v2: status, acknowledgement per symbol, trade, ticker, ohlc, heartbeat, ping.

Formats as in `recordings/kraken/ws_v2_*.jsonl`; a trade frame is one taker order of 1..n trades:

    {"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":84095.7,"qty":0.00275723,
     "ord_type":"limit","trade_id":109183886,"timestamp":"2026-09-26T18:09:13.157776Z"}]}
"""

from __future__ import annotations

import json
from typing import Any

from simulator.candles import candles
from simulator.market import SECOND_NS, key_of
from simulator.stream import Connection, FrameSource, StreamVenue
from simulator.tape import Tape, Trade, fixed
from simulator.times import rfc3339_ns, rfc3339_us

SNAPSHOT_TRADES = 50
SNAPSHOT_CANDLES = 10
OHLC_MINUTES = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
PRIVATE = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"


def trade_json(tape: Tape, trade: Trade) -> str:
    """Return one element of `data`."""
    product = tape.product
    return (
        f'{{"symbol":"{product.symbol}","side":"{"buy" if trade.buy else "sell"}",'
        f'"price":{fixed(trade.price, product.price_decimals)},'
        f'"qty":{fixed(trade.quantity, product.quantity_decimals)},'
        f'"ord_type":"{"market" if trade.market else "limit"}","trade_id":{trade.trade_id},'
        f'"timestamp":"{rfc3339_us(trade.ts_ns)}"}}'
    )


def trade_frame(tape: Tape, trades: list[Trade], kind: str) -> str:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(trade_json(tape, t) for t in trades)}]}}'


def ticker_frame(source: FrameSource, now_ns: int, kind: str) -> str:
    """Return a ticker: bid, ask and last are the tape's, the 24-hour figures are merely plausible."""
    tape, product = source.tape, source.tape.product
    decimals, last = product.price_decimals, source.last_price
    bid, ask = tape.bid_ask(now_ns)
    bid_qty, ask_qty = tape.bid_ask_quantity(now_ns)
    before = tape.bid_ask(now_ns - 86400 * SECOND_NS)[0]
    trades = int(product.rate * 86400)
    volume = int(trades * product.typical_quantity * 10**product.quantity_decimals)
    low, high = min(last, before, bid), max(last, before, ask)

    def price(value: int) -> str:
        return fixed(value, decimals)

    change = last - before
    sign = "-" if change < 0 else ""
    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{product.symbol}","bid":{price(bid)},'
        f'"bid_qty":{fixed(bid_qty, 8)},"ask":{price(ask)},"ask_qty":{fixed(ask_qty, 8)},"last":{price(last)},'
        f'"volume":{fixed(volume, 8)},"vwap":{price((low + high) // 2)},"low":{price(low)},"high":{price(high)},'
        f'"change":{sign}{price(abs(change))},"change_pct":{100 * change / before:.2f},"trades":{trades},'
        f'"timestamp":"{rfc3339_us(now_ns)}"}}]}}'
    )


class KrakenStream(StreamVenue):
    """WebSocket endpoint. Ticker frames follow trades (`event_trigger` trades) or each move of bid and ask (bbo)."""

    venue = "kraken"
    connects_allowed = (150 / 600, 150.0)
    messages_allowed = (20.0, 50.0)
    too_many_messages = '{"Error":"Exceeded msg rate"}'

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._connections_made = 0
        self._system = "online"
        self._last_bbo: dict[str, tuple[int, int]] = {}
        self._bbo_due_ns = 0
        self._ticker_at_ns: dict[str, int] = {}

    def on_connect(self, connection: Connection) -> list[Any]:
        self._connections_made += 1
        connection.last_sent_ns = self.world.now_ns()
        connection.send_control(self._status_frame(self._system))
        return []

    def _status_frame(self, system: str) -> str:
        number = int(key_of(self.world.config.seed, "connection", self._connections_made))
        status = {
            "version": "2.0.10",
            "system": system,
            "api_version": "v2",
            "connection_id": number,
            "upcoming_maintenance": [],
            "emergency": [],
        }
        return json.dumps({"channel": "status", "type": "update", "data": [status]}, separators=(",", ":"))

    # -- requests -----------------------------------------------------------------------------------------------------

    def _reply(self, connection: Connection, time_in_ns: int, **fields: Any) -> None:
        fields |= {"time_in": rfc3339_us(time_in_ns), "time_out": rfc3339_us(self.world.now_ns())}
        ordered = {key: fields[key] for key in sorted(fields) if fields[key] is not None}
        connection.send_control(json.dumps(ordered, separators=(",", ":")))

    def on_message(self, connection: Connection, text: str) -> None:
        now_ns = self.world.now_ns()
        try:
            request = json.loads(text)
            method, params = request["method"], request.get("params") or {}
            req_id = request.get("req_id")
        except (ValueError, KeyError, TypeError, AttributeError):
            self._reply(connection, now_ns, error="Malformed request", success=False)
            return
        if method == "ping":
            self._reply(connection, now_ns, method="pong", req_id=req_id)
        elif method in ("subscribe", "unsubscribe"):
            self._subscription(connection, now_ns, method, params, req_id)
        else:
            self._reply(connection, now_ns, error=f"Method not supported {method}", success=False, req_id=req_id)

    def _subscription(
        self, connection: Connection, now_ns: int, method: str, params: dict[str, Any], req_id: int | None
    ) -> None:
        channel, symbols = params.get("channel"), params.get("symbol")

        def refuse(error: str, symbol: str | None = None) -> None:
            self._reply(connection, now_ns, error=error, method=method, req_id=req_id, success=False, symbol=symbol)

        if channel in ("executions", "balances"):
            return refuse(PRIVATE)
        if channel not in ("trade", "ticker", "ohlc"):
            return refuse(f"Channel not supported {channel}")
        if channel == "ohlc" and params.get("interval", 1) not in OHLC_MINUTES:
            return refuse("Interval not supported")
        if not isinstance(symbols, list) or not symbols:
            return refuse("Symbol(s) not found")
        snapshots = []
        for symbol in symbols:
            tape = self.world.tape(self.venue, symbol)
            subscribed = connection.subscribed.setdefault(channel, {})
            if self.world.faults.active(self.venue, "ignore", symbol, channel):
                continue
            if tape is None:
                refuse(f"Currency pair not supported {symbol}", symbol)
                continue
            if method == "unsubscribe" and symbol not in subscribed:
                refuse("Subscription Not Found", symbol)
                continue
            if method == "subscribe" and symbol in subscribed:
                refuse("Already subscribed", symbol)
                continue
            result: dict[str, Any] = {"channel": channel, "symbol": symbol}
            if method == "unsubscribe":
                del subscribed[symbol]
            else:
                result["snapshot"] = bool(params.get("snapshot", channel != "trade"))
                if channel == "ticker":
                    result["event_trigger"] = params.get("event_trigger", "trades")
                if channel == "ohlc":
                    result |= {"interval": params.get("interval", 1)}
                    result["warnings"] = ["timestamp is deprecated, use interval_begin"]
                subscribed[symbol] = dict(result)
                key = (connection, channel, symbol)
                self.world.muted.discard(key)
                if self.world.faults.take(self.venue, "mute", symbol):
                    self.world.muted.add(key)
                elif result["snapshot"]:
                    snapshots.append((channel, tape, result))
            self._reply(
                connection,
                now_ns,
                method=method,
                req_id=req_id,
                success=True,
                result={key: result[key] for key in sorted(result)},
            )
        for of, tape, result in snapshots:
            connection.send_data(self._snapshot(of, tape, result), of, tape.product.symbol)

    def _snapshot(self, channel: str, tape: Tape, options: dict[str, Any]) -> str:
        """Return the latest 50 trades, up to where the stream of updates goes on."""
        now_ns = self.world.now_ns()
        if channel == "ticker":
            return ticker_frame(self.sources[tape.product.symbol], now_ns, "snapshot")
        if channel == "ohlc":
            return self._ohlc_frame(tape, now_ns, "snapshot", 60 * options["interval"], SNAPSHOT_CANDLES)
        last = self.sources[tape.product.symbol].handed_out()
        return trade_frame(tape, tape.trades(last - SNAPSHOT_TRADES + 1, last).rows(), "snapshot")

    def _ohlc_frame(self, tape: Tape, now_ns: int, kind: str, width_s: int, count: int) -> str:
        start_s = now_ns // SECOND_NS // width_s * width_s
        product = tape.product
        elements = []
        for candle in candles(tape, start_s - (count - 1) * width_s, start_s + width_s, width_s, now_ns):
            o, h, low, c, v = (fixed(x, product.price_decimals) for x in (*candle[1:5], candle.vwap))
            end_ns, begin_ns = (candle.start_s + width_s) * SECOND_NS, candle.start_s * SECOND_NS
            elements.append(
                f'{{"symbol":"{product.symbol}","open":{o},"high":{h},"low":{low},"close":{c},"trades":{candle.trades},'
                f'"volume":{fixed(candle.volume, 8)},"vwap":{v},"interval_begin":"{rfc3339_ns(begin_ns)}",'
                f'"interval":{width_s // 60},"timestamp":"{rfc3339_us(end_ns)}"}}'
            )
        return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{rfc3339_ns(now_ns)}","data":[{",".join(elements)}]}}'

    # -- what is sent by itself ---------------------------------------------------------------------------------------

    def publish(self, now_ns: int) -> None:
        due = self.due(now_ns)
        listeners = list(self.connections)
        if not listeners:
            return
        fault = self.world.faults.active(self.venue, "maintenance")
        system = str(fault.options.get("status", "maintenance")) if fault else "online"
        if system != self._system:
            self._system = system
            for connection in listeners:
                connection.send_control(self._status_frame(system))
        for source, orders in due:
            tape, symbol = source.tape, source.tape.product.symbol
            trading = [c for c in listeners if symbol in c.subscribed.get("trade", ()) and not c.muted("trade", symbol)]
            if trading:
                for order in orders:
                    frame = trade_frame(tape, order, "update")
                    for connection in trading:
                        connection.send_data(frame, "trade", symbol)
            # The venue sums up busy moments: at most ten tickers and ten candles a second and product.
            if now_ns - self._ticker_at_ns.get(symbol, 0) >= SECOND_NS // 10:
                self._ticker_at_ns[symbol] = now_ns
                self._send_tickers(listeners, source, now_ns, "trades")
                self._send_ohlc(listeners, tape, now_ns)
        if now_ns >= self._bbo_due_ns:
            self._bbo_due_ns = now_ns + SECOND_NS // 10
            if any("ticker" in c.subscribed for c in listeners):
                self._send_moved_quotes(listeners, now_ns)
        for connection in listeners:
            if connection.subscribed and now_ns - connection.last_sent_ns >= SECOND_NS:
                connection.last_sent_ns = now_ns
                connection.send_heartbeat('{"channel":"heartbeat"}')

    def _send_moved_quotes(self, listeners: list[Connection], now_ns: int) -> None:
        for symbol, source in self.sources.items():
            if any(self._wants_ticker(connection, symbol, "bbo") for connection in listeners):
                quote = source.tape.bid_ask(now_ns)
                if self._last_bbo.get(symbol) != quote:
                    self._last_bbo[symbol] = quote
                    self._send_tickers(listeners, source, now_ns, "bbo")

    @staticmethod
    def _wants_ticker(connection: Connection, symbol: str, trigger: str) -> bool:
        options = connection.subscribed.get("ticker", {}).get(symbol)
        return options is not None and options["event_trigger"] == trigger and not connection.muted("ticker", symbol)

    def _send_tickers(self, listeners: list[Connection], source: FrameSource, now_ns: int, trigger: str) -> None:
        symbol = source.tape.product.symbol
        wanted = [c for c in listeners if self._wants_ticker(c, symbol, trigger)]
        if wanted:
            frame = ticker_frame(source, now_ns, "update")
            for connection in wanted:
                connection.send_data(frame, "ticker", symbol)

    def _send_ohlc(self, listeners: list[Connection], tape: Tape, now_ns: int) -> None:
        symbol = tape.product.symbol
        for connection in listeners:
            options = connection.subscribed.get("ohlc", {}).get(symbol)
            if options is not None and not connection.muted("ohlc", symbol):
                width_s = 60 * options["interval"]
                connection.send_data(self._ohlc_frame(tape, now_ns, "update", width_s, 1), "ohlc", symbol)

"""What all venues share: the tapes, the clock of the tapes, faults and counts."""

from __future__ import annotations

import json
import time
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from simulator.candles import Candle, unsettled
from simulator.config import Config
from simulator.faults import Fault, FaultBoard, FaultError
from simulator.limits import Stats
from simulator.market import SECOND_NS, Product, key_of, uniform
from simulator.tape import Edits, Tape
from simulator.venues import trading

MOST_SENT = 200_000


class World:
    """One running market. `version` grows whenever the tape or its clock was changed by a command."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults = FaultBoard(config.seed)
        self.stats = Stats()
        self.offset_ns = int(config.clock_offset_s * SECOND_NS)
        self._published_ns = 0  # what was published before the clock was set back stays so
        self.version = 0
        self.muted: set[Any] = set()
        # What was handed to connections whose data nobody can ask for again: venue, product, ns on the tape's clock.
        self.sent: deque[tuple[str, str, int]] = deque(maxlen=MOST_SENT)
        self._numbering = cache(config.numbering)
        edits: dict[str, Any] = {}
        if config.state_path and Path(config.state_path).exists():
            state = json.loads(Path(config.state_path).read_text())
            self.offset_ns, edits = state["offset_ns"], state["edits"]
            self._published_ns = state.get("published_ns", 0)
        self.tapes: dict[tuple[str, str], Tape] = {}
        for venue in trading():
            for product in config.products_of(venue):
                name = f"{venue} {product.symbol}"
                made = Edits.from_json(edits[name]) if name in edits else Edits()
                self.tapes[venue, product.symbol] = Tape(product, config.seed, made)

    def now_ns(self) -> int:
        """The tape's clock, ns since 1970."""
        return time.time_ns() + self.offset_ns

    def published_until_ns(self) -> int:
        """Up to which time of the tape trades are published: now, or later where the clock was set back since."""
        return max(self.now_ns(), self._published_ns)

    def trade_id(self, product: Product, tape_id: int) -> int:
        """The id that the product's venue gives to a trade of the tape."""
        return self._numbering(product.venue, product.symbol).trade_id(tape_id)

    def products(self, venue: str) -> list[Product]:
        return [tape.product for (of, _), tape in self.tapes.items() if of == venue]

    def tape(self, venue: str, symbol: str) -> Tape | None:
        return self.tapes.get((venue, symbol))

    def find(self, venue: str, symbol: str) -> Tape:
        """The tape by the venue's symbol or by the canonical one (`BTC-USD`); FaultError names what exists."""
        for (of, name), tape in self.tapes.items():
            if of == venue and symbol in (name, tape.product.canonical):
                return tape
        known = [name for of, name in self.tapes if of == venue]
        raise FaultError(f"{venue} has no product {symbol!r} here; it has {', '.join(known) or 'none'}.")

    def visible_until_ns(self, venue: str, product: str | None = None) -> int:
        """Up to which time REST knows the tape (a `lag` fault holds it back)."""
        fault = self.faults.active(venue, "lag", product)
        lag_ns = int(float(fault.options.get("lag", 5.0)) * SECOND_NS) if fault else 0
        return self.published_until_ns() - lag_ns

    def change_tape(self, fault: Fault) -> list[dict[str, Any]]:
        """Carry out a hole, burst or clock command and return what it did."""
        if fault.kind == "clock":
            jump_s = float(fault.options.get("jump", 3600.0))
            if jump_s < 0:
                self._published_ns = self.published_until_ns()
            self.offset_ns += int(jump_s * SECOND_NS)
            done: list[dict[str, Any]] = [{"offset_ns": self.offset_ns, "now_ns": self.now_ns()}]
        else:
            names = fault.options.get("products") or [product.symbol for product in self.products(fault.venue)]
            tapes = [self.find(fault.venue, name) for name in names]
            done = []
            for tape in tapes:
                soon = self.now_ns() + 200_000_000
                if fault.kind == "hole":
                    edit: Any = tape.add_hole(tape.last_id_at(soon), int(fault.options.get("count", 5)))
                else:
                    edit = tape.add_burst(soon, int(fault.options.get("count", 1500)))
                done.append({"product": tape.product.symbol, **vars(edit)})
        self.version += 1
        self._save()
        return done

    def edits(self) -> dict[str, Any]:
        return {f"{v} {s}": t.edits.as_json() for (v, s), t in self.tapes.items() if t.edits.holes or t.edits.bursts}

    def _save(self) -> None:
        if self.config.state_path:
            path = Path(self.config.state_path)
            state = {"offset_ns": self.offset_ns, "published_ns": self._published_ns, "edits": self.edits()}
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps(state))
            temporary.replace(path)

    def shown(self, tape: Tape, made: list[Candle], width_s: int) -> list[Candle]:
        """Return candles as an endpoint shows them: with a wrong price or some missing if a fault or setting demands
        it."""
        venue, symbol = tape.product.venue, tape.product.symbol
        factor, share = 1.0, self.config.missing_candles
        if fault := self.faults.active(venue, "wrong-price", symbol):
            factor = float(fault.options.get("factor", 1.1))
        elif self.config.wrong_price_venue == venue:
            factor = 1.1
        if fault := self.faults.active(venue, "missing-candles", symbol):
            share = float(fault.options.get("share", 0.1))
        if share:
            key = key_of(self.config.seed, venue, symbol, "missing")
            starts = np.array([candle.start_s for candle in made], dtype=np.int64)
            made = [candle for candle, drawn in zip(made, uniform(key, starts), strict=True) if drawn >= share]
        if factor != 1.0:
            prices = ("open", "high", "low", "close", "vwap")
            made = [c._replace(**{name: round(getattr(c, name) * factor) for name in prices}) for c in made]
        return unsettled(self.faults, tape.product, made, width_s, self.now_ns()) if self.faults.any else made

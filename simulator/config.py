"""The configuration of a simulator: a frozen dataclass, readable from a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from simulator.market import Product, default_products, load_products, product_from
from simulator.numbering import Numbering
from simulator.venues import listings

RECORDINGS = Path(__file__).parent / "recordings"


class ConfigError(Exception):
    """An invalid setting; the text says what to change."""


@dataclass(frozen=True)
class Config:
    """`rate_scale` multiplies the default rates; `load_frames_per_s` replaces the products of each live venue by ten
    of a load test; `products` by venue replaces them by exactly those given (fields of `market.Product`).

    `clock_offset_s` sets the tape's clock against the machine's (-3600: an hour behind, so that a later `clock` fault
    of 3600 s catches up). `state_path` keeps edits of the tape and the clock over a restart.
    `dukascopy_folder` is a folder of `SYM/YYYY/MM/DD/HHh_ticks.bi5`, `dukascopy_json_folder` one of recorded JSON
    answers; `synthesize_hours` invents that many hours before now which are recorded nowhere.
    `binance_archive_holes` says what the daily files do not have: symbol -> [[from, minutes], ...], the former in ISO.
    """

    port: int = 0
    seed: int = 1
    rate_scale: float = 1.0
    load_frames_per_s: float = 0.0
    products: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tick_ms: float = 10.0
    clock_offset_s: float = 0.0
    state_path: str = ""
    dukascopy_folder: str = str(RECORDINGS / "dukascopy" / "bi5")
    dukascopy_json_folder: str = str(RECORDINGS / "dukascopy" / "jetta")
    synthesize_hours: int = 0
    synthesize_instruments: tuple[str, ...] = ("EURUSD", "BTCUSD")
    kraken_rest_rate: float = 1.0
    kraken_rest_burst: float = 4.0
    coinbase_rest_rate: float = 10.0
    coinbase_rest_burst: float = 15.0
    binance_archive_holes: dict[str, list[list[Any]]] = field(default_factory=dict)
    binance_key_wanted: bool = False  # as until 2023-08, and where another company runs the same software
    coinbase_public_key: str = ""  # PEM text, or the path of a PEM file; empty: a token is only read, not verified
    kraken_ohlc_history: bool = False  # the venue itself never gives more than its last 720 candles
    wrong_price_venue: str = ""
    missing_candles: float = 0.0
    exit_with_parent: bool = False  # a test that is killed leaves no simulator behind

    def numbering(self, venue: str, symbol: str) -> Numbering:
        """How the venue numbers the trades of a product."""
        step = listings()[venue].id_step
        names = [product.symbol for product in self.products_of(venue)]
        return Numbering(step, names.index(symbol) if step > 1 else 0)

    @classmethod
    def load(cls, path: str | None, **changes: Any) -> Config:
        """The file's settings with `changes` on top (those that are not None)."""
        settings: dict[str, Any] = {}
        if path:
            try:
                settings = json.loads(Path(path).read_text())
            except (OSError, ValueError) as error:
                raise ConfigError(f"The configuration {path} is not valid JSON ({error}); correct the file.") from None
        settings |= {key: value for key, value in changes.items() if value is not None}
        known = {f.name for f in fields(cls)}
        if unknown := sorted(settings.keys() - known):
            raise ConfigError(f"Unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        if "synthesize_instruments" in settings:
            settings["synthesize_instruments"] = tuple(settings["synthesize_instruments"])
        return cls(**settings)

    def products_of(self, venue: str) -> list[Product]:
        """The products that the venue trades under this configuration."""
        if venue in self.products:
            return [product_from(venue, settings) for settings in self.products[venue]]
        if self.load_frames_per_s and listings()[venue].sockets:
            return load_products(venue, self.load_frames_per_s)
        return default_products(venue, self.rate_scale)

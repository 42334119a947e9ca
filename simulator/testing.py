"""Start a simulator for a test: a separate process on a free port, stopped at the end of the block.

with running_simulator(seed=7) as simulator:
    environment = os.environ | simulator.environment()
    simulator.fault("drop", "kraken", count=3)
    rows = simulator.truth("kraken", "BTC/USD", from_id, to_id)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from simulator.config import Config
from simulator.faults import FaultError
from simulator.numbering import Numbering
from simulator.tape import Edits, Tape
from simulator.venues import listings, trading

_ROOT = Path(__file__).parents[1]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Simulator:
    """A running simulator process. `port` stays the same over `restart`, and so does the tape."""

    def __init__(self, config: Config) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="simulator-")
        path = Path(self._folder.name)
        state_path = config.state_path or str(path / "state.json")
        self.config = replace(config, state_path=state_path, exit_with_parent=True)
        self.port = config.port
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start (again) on the same port; returns when it listens."""
        path = Path(self._folder.name) / "config.json"
        path.write_text(json.dumps(asdict(self.config)))
        command = [sys.executable, "-m", "simulator", "serve", "--port", str(self.port), "--config", str(path)]
        search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": search}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "listening on" not in line:
            self.stop()
            raise RuntimeError(f"the simulator did not start: {line!r}")
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self, kill: bool = False) -> None:
        """Stop the process (`kill`: with SIGKILL)."""
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(20)
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None

    def restart(self, kill: bool = True) -> None:
        self.stop(kill)
        self.start()

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """Return all venue addresses of the pipeline's settings, pointing here, and the credentials that venues
        require."""
        return urls(self.port)

    def replay_url(self, venue: str) -> str:
        """A WebSocket address that sends the recorded session of a venue, byte by byte."""
        return f"ws://127.0.0.1:{self.port}/replay/{venue}"

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, {"Content-Type": "application/json"})
        try:
            with _OPENER.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise FaultError(json.load(error)["error"]) from None

    def fault(self, kind: str, venue: str, **options: Any) -> list[dict[str, Any]]:
        """Strike; the kinds and options are those of `simulator.faults`. Gives what a tape command did."""
        answer = self._call("/control/fault", {"kind": kind, "venue": venue, **options})
        return cast(list[dict[str, Any]], answer["done"])

    def clear(self) -> None:
        self._call("/control/clear", {})

    def faults(self) -> dict[str, Any]:
        """What is in force, and under `struck` how often each fault has struck."""
        return cast(dict[str, Any], self._call("/control/faults"))

    def stats(self) -> dict[str, Any]:
        return cast(dict[str, Any], self._call("/control/stats"))

    def reset_stats(self) -> None:
        self._call("/control/stats/reset", {})

    def now(self) -> dict[tuple[str, str], int]:
        """The newest published id by (venue, canonical product), e.g. ("kraken", "BTC-USD")."""
        rows = self._call("/truth/now")["products"]
        return {(row["venue"], row["canonical"]): row["last_id"] for row in rows}

    def now_ns(self) -> int:
        """The tape's clock."""
        return int(self._call("/truth/now")["now_ns"])

    def truth(self, venue: str, product: str, from_id: int, to_id: int) -> list[dict[str, Any]]:
        """The tape: id, ts_ns, price, quantity (exact text), taker_side. `product` as the venue's or `BTC-USD`."""
        query = f"venue={venue}&product={product}&from_id={from_id}&to_id={to_id}"
        with _OPENER.open(f"{self.base_url}/truth/trades?{query}", timeout=600) as response:
            return [json.loads(line) for line in response]

    def holes(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """The ids that the venue itself skipped, first and last of each hole, by (venue, canonical product)."""
        edits = self._call("/truth/edits")["edits"]
        return {
            (venue, product.canonical): [(hole["first_id"], hole["last_id"]) for hole in made["holes"]]
            for venue in trading()
            for product in self.config.products_of(venue)
            if (made := edits.get(f"{venue} {product.symbol}"))
        }

    def numbering(self, venue: str, product: str) -> Numbering:
        """How the venue numbers the trades of a product, given as `BTC-USD`."""
        (symbol,) = (one.symbol for one in self.config.products_of(venue) if one.canonical == product)
        return self.config.numbering(venue, symbol)

    def sent(self) -> dict[tuple[str, str], list[int]]:
        """The times (ns on the tape's clock) of what was sent and cannot be asked for again, by (venue, canonical
        product), in the order in which it was sent."""
        found: dict[tuple[str, str], list[int]] = {}
        names = {(v, p.symbol): p.canonical for v in trading() for p in self.config.products_of(v)}
        for venue, symbol, at_ns in self._call("/truth/sent")["sent"]:
            found.setdefault((venue, names[venue, symbol]), []).append(at_ns)
        return found

    def tape(self, venue: str, product: str) -> Tape:
        """The same tape in this process, with the edits made so far: columns of millions of trades in no time."""
        edits = self._call("/truth/edits")["edits"]
        for candidate in self.config.products_of(venue):
            if product in (candidate.symbol, candidate.canonical):
                made = edits.get(f"{venue} {candidate.symbol}")
                return Tape(candidate, self.config.seed, Edits.from_json(made) if made else None)
        raise FaultError(f"{venue} has no product {product!r} here.")


def urls(port: int) -> dict[str, str]:
    """Return the pipeline's address settings for a simulator on this port, and the credentials that venues require."""
    web, socket, known = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", listings()
    candles = {name: web + one.candles for name, one in known.items() if one.candles is not None}
    return {
        **{setting: socket + path for one in known.values() for setting, path in one.sockets.items()},
        **{setting: web + path for one in known.values() for setting, path in ({**one.pages, **one.lines}).items()},
        **{setting: value for one in known.values() for setting, value in one.lets_in.items()},
        "EXCHANGE_CANDLES_URLS": json.dumps(candles),
    }


@contextmanager
def running_simulator(**settings: Any) -> Iterator[Simulator]:
    """A simulator with these fields of `simulator.config.Config` (seed, rate_scale, products, dukascopy_folder, …)."""
    simulator = Simulator(Config.load(None, **settings))
    try:
        yield simulator
    finally:
        simulator.close()

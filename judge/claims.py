"""The lie detector: what completeness, status, /health and the dashboard say, compared with the tape during faults.

| who | what counts as a claim |
|---|---|
| `completeness` | `missing` is 0 for a product's trades |
| status, dashboard | `ok` is true: of every product; `missing` is 0: of that product |
| health | every program answers 200 or is done or off: of every product |
| gap-filler | its /health is ok and `open_ids` does not name a product: of that product |
| `holes` | signed ids do not exist at the venue |
| `completeness` of samples | anything: nobody can know |

A claim about a product is a lie while an id of it that came onto the tape more than a minute ago is stored nowhere,
neither in the table `trades` nor in a file of the archive, and was not skipped by the venue itself. An explanation is
one when the tape has an id of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
import requests

from judge import samples
from judge.truth import Key, Truth, connect
from pipeline.core.settings import PROJECT
from pipeline.database.connection import Connection

OLDER_S = 60.0
EVERY_S = 1.0
DASHBOARD_EVERY_S = 2.0
DASHBOARD_KEPT_S = 3.0  # the page's answer may be this old
FINE = ("ok", "off", "done")
_COMPLETENESS = "SELECT venue, product_id FROM completeness WHERE kind = 'trades' AND missing = 0"
_EXPLAINED = """
    SELECT i.venue, i.product_id, h.first_id, h.last_id, h.reason FROM holes h JOIN instruments i USING (instrument_id)
    WHERE h.first_id IS NOT NULL AND h.signed_at IS NOT NULL
"""


@dataclass(frozen=True)
class Lie:
    """`at_s` counts from the detector's start."""

    at_s: float
    who: str
    claim: str
    truth: str

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.who} says {self.claim}; {self.truth}"


class Claims:
    """Checks and counts claims. `lies` has the first of each series, by kind and product; `told` counts all lies."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._lying: set[tuple[str, Key]] = set()
        self._sample_claims: set[str] = set()
        self._false_explanations: set[tuple[Any, ...]] = set()
        self.checked: Counter[str] = Counter()
        self.lies: list[Lie] = []
        self.told = 0

    def complete(self, who: str, claim: str, products: Iterable[Key], as_of_s: float) -> None:
        """Check a claim that nothing of these products was missing at that moment (monotonic seconds)."""
        for key in products:
            missing = self._truth.unstored(key, as_of_s)
            with self._lock:
                self.checked[who] += 1
                if not missing:
                    self._lying.discard((who, key))
                    continue
                self.told += 1
                if (who, key) not in self._lying:
                    self._lying.add((who, key))
                    name = " ".join(key)
                    self._add(who, f"{claim} of {name}", f"{len(missing)} old ids are not stored, first {missing[0]}")

    def explained(self, rows: Iterable[tuple[str, str, int, int, str]]) -> None:
        """Check the ledger's claim that the venue has none of these ids."""
        for venue, product, first_id, last_id, reason in rows:
            row = (venue, product, first_id, last_id, reason)
            false = self._truth.falsely_explained((venue, product), first_id, last_id)
            with self._lock:
                self.checked["holes"] += 1
                if false is None:
                    continue
                self.told += 1
                if row not in self._false_explanations:
                    self._false_explanations.add(row)
                    ids = f"{venue} {product} {first_id}..{last_id}"
                    self._add("holes", f"{reason} of {ids}", f"the tape has {false}")

    def of_samples(self, claimed: Iterable[str]) -> None:
        """Record a claim that samples are complete, which is always a lie."""
        for text in claimed:
            with self._lock:
                self.told += 1
                if text not in self._sample_claims:
                    self._sample_claims.add(text)
                    self._add("completeness", text, "samples are never complete")

    def _add(self, who: str, claim: str, truth: str) -> None:
        self.lies.append(Lie(round(time.monotonic() - self._began_s, 1), who, claim, truth))

    def state(self, who: str, found: Mapping[str, Any], as_of_s: float, known: Iterable[Key]) -> None:
        """Check a response of `status --json` or the dashboard's /api/state."""
        every = list(known)
        if found["ok"]:
            self.complete(who, "all well", every, as_of_s)
        zero = [
            (one["venue"], one["product_id"])
            for one in found["instruments"]
            if one["kind"] == "trades" and one["missing"] == 0
        ]
        self.complete(who, "0 missing", (key for key in zero if key in every), as_of_s)

    def health(self, programs: Iterable[Mapping[str, Any]], as_of_s: float, known: Iterable[Key]) -> None:
        """Check the health reports of all programs together."""
        asked = list(programs)
        if asked and all(one["state"] in FINE for one in asked):
            self.complete("health", "every program is well", known, as_of_s)

    def gap_filler(self, ok: bool, body: Mapping[str, Any], asked_s: float, known: Iterable[Key]) -> None:
        """Check the gap filler's /health, which states the age of its last look at the ledger."""
        if ok and "open_ids" in body:
            as_of_s = asked_s - float(body.get("ledger_read_age_s", 0.0)) - 0.1
            silent = [key for key in known if " ".join(key) not in body["open_ids"]]
            self.complete("gap-filler", "no open ids", silent, as_of_s)


class Detector:
    """Poll every source each second or two, in threads, until `close`.

    `excused` says whether nothing is to be judged just now: within a minute of a restore of the database, which takes
    rows away that were there.
    """

    def __init__(
        self,
        truth: Truth,
        database_url: str,
        dashboard_port: int,
        gap_filler_port: int,
        environment: Mapping[str, str],
        excused: Callable[[], bool],
    ) -> None:
        self._truth, self._url, self._environment, self._excused = truth, database_url, environment, excused
        self._dashboard = f"http://127.0.0.1:{dashboard_port}/api/state"
        self._filler = f"http://127.0.0.1:{gap_filler_port}/health"
        self._stop = threading.Event()
        self._conn: Connection | None = None
        self.claims = Claims(truth)
        self.broken: list[str] = []
        self._asking: subprocess.Popen[str] | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(look, every_s), name=look.__name__, daemon=True)
            for look, every_s in ((self._poll, EVERY_S), (self._page, DASHBOARD_EVERY_S), (self._gaps, EVERY_S))
        ]
        self._threads.append(threading.Thread(target=self._status, name="status", daemon=True))

    def start(self) -> None:
        self._truth.sample()
        self._asking = subprocess.Popen(
            [sys.executable, "-m", "judge.asking"],
            env=dict(self._environment),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._asking is not None:
            self._asking.kill()
            self._asking.wait()
        for thread in self._threads:
            thread.join(20)

    def _repeat(self, look: Callable[[], None], every_s: float) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                look()
            except (psycopg.Error, OSError, ValueError):  # no answer, no claim
                pass
            except Exception as error:  # a detector that ended would find no more lies
                self.broken.append(f"{look.__name__}: {error!r}")
            self._stop.wait(max(0.1, every_s - (time.monotonic() - began_s)))

    def _poll(self) -> None:
        """Sample the tape, then check the database's claims."""
        self._truth.sample()
        if self._excused():
            self._truth.forget()
            return
        try:
            if self._conn is None or self._conn.closed:
                self._conn = connect(self._url)
            asked_s = time.monotonic()
            known = self._truth.products
            zero = [row for row in self._conn.execute(_COMPLETENESS).fetchall() if row in known]
            explained = self._conn.execute(_EXPLAINED).fetchall()
        except psycopg.Error:
            self._conn = None
            raise
        sampled = samples.claims(self._conn)
        if not self._excused():
            self.claims.of_samples(sampled)
            self.claims.complete("completeness", "0 missing", zero, asked_s)
            self.claims.explained(explained)

    def _page(self) -> None:
        asked_s = time.monotonic()
        answer = requests.get(self._dashboard, timeout=30)
        if answer.status_code == 200 and not self._excused():
            self.claims.state("dashboard", answer.json(), asked_s - DASHBOARD_KEPT_S, self._truth.products)

    def _gaps(self) -> None:
        asked_s = time.monotonic()
        answer = requests.get(self._filler, timeout=10)
        if not self._excused():
            self.claims.gap_filler(answer.status_code == 200, answer.json(), asked_s, self._truth.products)

    def _status(self) -> None:
        assert self._asking is not None
        assert self._asking.stdout is not None
        for line in self._asking.stdout:
            try:
                found = json.loads(line)
                if not self._excused():
                    known = self._truth.products
                    self.claims.state("status", found, found["asked_s"], known)
                    self.claims.health(found["programs"], found["asked_s"], known)
            except Exception as error:
                self.broken.append(f"status: {error!r}")
        if not self._stop.is_set():
            self.broken.append("judge.asking ended")

    def verdict(self) -> list[str]:
        """Return every lie, errors of the detector itself, and sources that never made a claim."""
        silent = [who for who in ("completeness", "status", "dashboard", "gap-filler") if not self.claims.checked[who]]
        return [
            *(f"LIE {lie}" for lie in self.claims.lies),
            *(f"the lie detector: {text}" for text in self.broken[:5]),
            *(f"the lie detector never heard a claim of {who}" for who in silent),
        ]

    def json(self) -> dict[str, Any]:
        lies = [asdict(lie) for lie in self.claims.lies[:100]]
        return {"claims": dict(self.claims.checked), "lies": lies, "lies_told": self.claims.told, "broken": self.broken}

"""Injects the faults of a plan and ends them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from xmlrpc.client import Error as RpcError

import pulsar

import schemas
from judge import hostile
from judge.claims import OLDER_S
from judge.schedule import LOADS, Fault
from judge.testbed import Stage
from judge.topics import Topics
from pipeline.broker.topics import topic_of
from pipeline.core.runtime import now_us
from pipeline.services.processes import Process
from simulator.faults import FaultError

BEFORE_BACKUP_NS = 60_000_000_000  # what was still on its way to the database
POISON_ID = 1_000_000_000_000  # far above every tape: a poisoned row never hides a real one


class Striker:
    """Injects faults as planned. `poisoned`: ids of the rows that must be found among the dead letters;
    `during_load`: how many faults struck while a historical load was running."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self._stage, self._say = stage, say
        self.poisoned: list[int] = []
        # Poison that nobody may have seen: it was refused, or its topic was deleted with it.
        self.doubtful: set[int] = set()
        self._poison_of: dict[str, set[int]] = {}
        # Of hostile messages, ledger and entry; topics on which one may have gone out although nobody said so.
        self.hostile: set[tuple[int, int]] = set()
        self.hostile_topics: set[str] = set()
        self.skewed = False
        self.restored: list[tuple[int, int]] = []  # times (ns on the tape's clock) of which rows may be gone
        self._backed_up_ns = 0
        self.excused_until_s = float("-inf")  # of a restore: what was stored is gone for a while, monotonic seconds
        self.struck = self.missed = self.during_load = 0
        self._ends: list[tuple[float, Callable[[], object]]] = []

    def run(self, faults: Sequence[Fault], seconds: float, stop: threading.Event) -> None:
        """Inject the faults at their times; returns when the time is up and every fault has ended."""
        began = time.monotonic()
        left = list(faults)
        while (now := time.monotonic() - began) < seconds or left:
            while left and left[0].at_s <= now:
                self._strike(left.pop(0), began)
            self._end_due(time.monotonic())
            if self._stage.revive():
                self._say("         supervisord had ended, started again")
            if stop.wait(0.1):
                break
        self._stage.simulator.clear()
        while self._ends and not stop.wait(0.5):
            self._end_due(float("inf"))
            self._stage.revive()

    def _end_due(self, now: float) -> None:
        for due in [one for one in self._ends if one[0] <= now]:
            try:
                due[1]()
                self._ends.remove(due)
            except (OSError, RpcError) as error:  # broker or supervisord is down: retry in a moment
                self._ends.remove(due)
                self._say(f"         not undone yet: {error}")
                self._ends.append((time.monotonic() + 2.0, due[1]))

    def _later(self, fault: Fault, do: Callable[[], object]) -> None:
        self._ends.append((time.monotonic() + fault.seconds, do))

    @property
    def _topics(self) -> Topics:
        return Topics(self._stage.broker, self._stage.tenant)

    def _strike(self, fault: Fault, began: float) -> None:
        loading = any(self._stage.process(name) for name in LOADS)
        try:
            did = getattr(self, f"_{fault.kind}")(fault)
        except (FaultError, OSError, RpcError, pulsar.PulsarException) as error:
            did, fault_error = False, f" ({error})"
        else:
            fault_error = ""
        self.struck += did is not False
        self.during_load += loading and did is not False
        self.missed += did is False
        late = time.monotonic() - began
        self._say(f"{fault}{'' if did is not False else f'  -- nothing to strike{fault_error}'}  [{late:.1f}]")

    def _kill(self, fault: Fault) -> bool:
        return self._stage.signal(fault.target, signal.SIGKILL)

    _kill_tier = _kill

    def _freeze(self, fault: Fault) -> bool:
        frozen = self._stage.process(fault.target)
        for process in frozen:
            process.send(signal.SIGSTOP)
        self._later(fault, lambda: _thaw(frozen))
        return bool(frozen)

    def _freeze_for_ever(self, fault: Fault) -> bool:
        return self._stage.signal(fault.target, signal.SIGSTOP)

    def _kill_supervisord(self, fault: Fault) -> None:
        self._stage.kill_supervisord()

    def _cut(self, fault: Fault) -> bool:
        proxy = self._stage.proxies[fault.target]
        met = proxy.connections > 0
        proxy.cut()
        return met

    def _stall(self, fault: Fault) -> None:  # of connections made meanwhile too
        self._stage.proxies[fault.target].stall()
        self._later(fault, self._stage.proxies[fault.target].flow)

    def _stream(self, fault: Fault) -> None:
        venue, kind = fault.target.split()
        self._stage.simulator.fault(kind, venue, **fault.options)

    _rest = _stream

    def _clock(self, fault: Fault) -> None:
        self._stage.simulator.fault("clock", fault.target, **fault.options)

    def _hole(self, fault: Fault) -> None:
        self._stage.simulator.fault("hole", fault.target, **fault.options)

    def _disk_full(self, fault: Fault) -> bool:
        if not self._stage.disk.there:
            return False
        self._stage.disk.fill()
        self._later(fault, self._stage.disk.empty)
        return True

    def _terminate(self, fault: Fault) -> None:
        """Terminate a topic, and afterwards repair it as an operator would: delete it, with its unread messages."""
        self._topics.terminate(fault.target)
        self._later(fault, lambda: self._delete(fault))

    def _delete(self, fault: Fault) -> None:
        self.doubtful |= self._poison_of.pop(fault.target, set())
        self._topics.delete(fault.target)

    def _unload(self, fault: Fault) -> None:
        self._topics.unload(fault.target)

    def _refuse(self, fault: Fault) -> None:
        self._topics.refuse(fault.target)
        self._later(fault, lambda: self._topics.accept(fault.target))

    def _skew(self, fault: Fault) -> None:
        self.skewed = True
        self._stage.turn_clock(fault.target, fault.options["by_s"])
        self._later(fault, lambda: self._stage.turn_clock(fault.target, 0))

    def _ignore(self, fault: Fault) -> None:
        venue, kind = fault.target.split()
        symbols = {p.canonical.lower(): p.symbol for p in self._stage.simulator.config.products_of(venue)}
        options = {key: value for key, value in fault.options.items() if key != "product"}
        self._stage.simulator.fault(kind, venue, products=[symbols[fault.options["product"]]], **options)
        self._stage.simulator.fault("cut", venue, count=1)  # who is connected already was acknowledged

    def _restore(self, fault: Fault) -> None:
        """The database as it was at the beginning of this fault, at its end."""
        self._backed_up_ns = self._stage.simulator.now_ns() - BEFORE_BACKUP_NS
        self._stage.back_up_database()
        self._later(fault, self._put_back)

    def _put_back(self) -> None:
        self.excused_until_s = float("inf")
        try:
            self._stage.restore_database()
        finally:
            self.restored.append((self._backed_up_ns, self._stage.simulator.now_ns()))
            self.excused_until_s = time.monotonic() + OLDER_S

    def excused(self) -> bool:
        """Whether claims are not judged just now: a restore is no lie, for as long as a silent stop may go unseen."""
        return time.monotonic() < self.excused_until_s

    def _hostile(self, fault: Fault) -> None:
        topic = f"persistent://{self._stage.tenant}/{fault.target}"
        venue, _, product = fault.target.rpartition("/")[2].partition(".")
        newest = self._stage.newest_id(venue, product.upper())
        made = hostile.messages(fault.options["seed"], fault.target, fault.options["count"], now_us(), newest)
        client = self._stage.client()
        try:
            producer = client.create_producer(
                topic, schema=schemas.registered(made[0].schema), send_timeout_millis=5000, batching_enabled=False
            )
            for message in made:
                sent = producer.send(message.payload)
                self.hostile.add((sent.ledger_id(), sent.entry_id()))
        except pulsar.PulsarException:
            self.hostile_topics.add(topic)
            raise
        finally:
            client.close()

    def _poison(self, fault: Fault) -> None:
        """Publish a negative price between two messages of the venue. Gives up if the broker is down."""
        trade_id = POISON_ID + len(self.poisoned)
        product = self._stage.simulator.config.products_of(fault.target)[0].canonical
        row = {"trade_id": trade_id, "timestamp_us": now_us(), "price": "-1", "quantity": "1", "taker_side": "buy"}
        record = {
            "venue": fault.target,
            "product_id": product,
            "asset_class": "crypto",
            "origin": "live",
            "received_at_us": now_us(),
            "trades": [row],
            "holes": [],
        }
        client = self._stage.client()
        try:
            topic = topic_of(self._stage.tenant, "trades", fault.target, product)
            producer = client.create_producer(topic, schema=schemas.registered("trades"), send_timeout_millis=5000)
            self.poisoned.append(trade_id)
            self.doubtful.add(trade_id)  # the confirmation was lost, so it may have been published
            producer.send(record)
            self.doubtful.discard(trade_id)
            self._poison_of.setdefault(f"trades/{topic.rpartition('/')[2]}", set()).add(trade_id)
        finally:
            client.close()


def _thaw(frozen: list[Process]) -> None:
    for process in frozen:
        process.send(signal.SIGCONT)

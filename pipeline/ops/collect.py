"""Collect the state of the pipeline, for `scripts/status` and the dashboard.

Sources: the programs' `/health`, supervisord, the broker's backlogs, the database. A source that does not answer is
part of the result, not an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import psycopg
import requests
from supervisor.xmlrpc import SupervisorTransport

from pipeline.broker.admin import Admin
from pipeline.broker.topics import full_name, local_name
from pipeline.core.errors import PipelineError
from pipeline.core.programs import Program
from pipeline.core.settings import PROJECT, DatabaseSettings, PulsarSettings, load
from pipeline.database import query
from pipeline.database.connection import connect
from pipeline.database.sql import statement
from pipeline.ops import sentences
from pipeline.ops.claim import complete_text, provable
from pipeline.services import demo, local_http, preflight
from pipeline.services import local as private

ANSWER_WITHIN_S = 3.0
SUBSCRIPTION = "writer"
# Kinds of data and their namespace.
SPACES = {"trades": "trades", "quotes": "quotes", "tickers": "tickers"}
FINE = ("ok", "off", "done")
FINE_PRODUCTS = ("live", "quiet", "starting")
T = TypeVar("T")


@dataclass
class ProgramState:
    """The state of a program: ok, unwell (`why`, by its /health), down, off (disabled) or done (its work, for good)."""

    name: str
    state: str
    port: int
    why: list[str] = field(default_factory=list)
    pid: int | None = None
    uptime_s: int | None = None
    health: dict[str, Any] = field(default_factory=dict)


@dataclass
class InstrumentState:
    """The state of one instrument and kind of data.

    `rate_per_s`: over the last five minutes; `age_s`: of the newest row; `backlog`: messages not yet stored. `missing`
    and `share_complete` are None, with `live`, if the newest trade could not be confirmed since `proven_until`.
    `explained_by`: counts by reason. `proof`: a value of `Proof`; `missed_s`: time without a connection, if sampled.
    """

    venue: str
    product_id: str
    kind: str
    rows: int
    rate_per_s: float
    age_s: float | None
    missing: int | None
    explained: int
    share_complete: float | None
    backlog: int | None = None
    first_at: Any = None
    last_at: Any = None
    live: bool | None = None
    proven_until: Any = None
    explained_by: dict[str, int] | None = None
    proof: str | None = None
    missed_s: float | None = None

    @property
    def unknown(self) -> bool:
        """Whether completeness is provable but currently unknown."""
        return provable(self.proof) and self.kind == "trades" and bool(self.live) and self.share_complete is None

    @property
    def complete(self) -> str:
        """Completeness in words."""
        missed = timedelta(seconds=self.missed_s or 0)
        return complete_text(self.proof, self.share_complete, self.explained_by, self.live, self.proven_until, missed)


@dataclass
class ProductState:
    """A product with a problem, as reported by its live producer."""

    program: str
    product_id: str
    state: str  # refused, unanswered, stale, failed ...
    reason: str


@dataclass
class CandleState:
    """Candles of one exchange and product: the newest final one, how many are covered, and up to how long ago."""

    venue: str
    product_id: str
    granularity_s: int
    covered: int
    behind_s: float | None
    newest_at: Any
    age_s: float | None


@dataclass
class ArchiveState:
    """Archive files of one instrument and kind. `until_at`: end of the newest span, `age_s` ago; `files_only`: rows no
    longer in a table; `changed`: files whose rows have changed since."""

    venue: str
    product_id: str
    kind: str
    files: int
    rows: int
    bytes: int
    files_only: int
    changed: int
    from_at: Any
    until_at: Any
    age_s: float

    @property
    def bytes_a_row(self) -> float:
        return self.bytes / self.rows


@dataclass
class State:
    """The state of the pipeline. `problems` is empty if all is well."""

    programs: list[ProgramState]
    instruments: list[InstrumentState]
    dead_letters: dict[str, int]
    problems: list[str]
    products: list[ProductState] = field(default_factory=list)
    exchange_candles: list[CandleState] = field(default_factory=list)
    archive: list[ArchiveState] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def supervised() -> dict[str, dict[str, Any]]:
    """Return our supervisord's information on each process; empty if it is not running. The one that the environment
    names may be another: this shell's own parent."""
    own = f"unix://{(private.data_folder() if demo.active() else PROJECT / '.services') / 'sock'}"
    for place in (os.environ.get("SUPERVISOR_SERVER_URL", own), own):
        try:
            server = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, place))
            if place == own or preflight.is_ours(server.supervisor.getPID()):
                states: Any = server.supervisor.getAllProcessInfo()
                return {one["name"]: one for one in states}
        except (OSError, RpcError):
            continue
    return {}


def program_state(one: Program, known: dict[str, Any] | None) -> ProgramState:
    """Query one program."""
    found = ProgramState(one.name, "ok", one.port)
    if known and known["statename"] == "RUNNING":
        found.pid, found.uptime_s = known["pid"], known["now"] - known["start"]
    if not one.enabled or not demo.exists(one):
        found.state = "off"
        return found
    if one.once and known and known["statename"] == "RUNNING":
        return found
    running = known is None or known["statename"] == "RUNNING"
    failed: Exception | None = None
    if running:  # otherwise it is somebody else who answers on its port
        try:
            answer = local_http.ask(f"http://127.0.0.1:{one.port}/health", ANSWER_WITHIN_S)
            found.health = answer.json()
            why = found.health.get("why", [])
            found.why = [str(text) for text in ([why] if isinstance(why, str) else why)]
            found.state = "ok" if answer.status_code == 200 else "unwell"
            return found
        except (requests.RequestException, ValueError, AttributeError, TypeError, RecursionError) as error:
            found.health, failed = {}, error
    ended = known is not None and known["statename"] == "EXITED" and known["exitstatus"] == 0
    if one.once and ended:
        found.state = "done"
    elif one.name == "retention" and load(DatabaseSettings).retention_days == 0:
        found.state = "off"
    else:
        found.state = "down"
        found.why = [sentences.down(one.name, one.port, str(known["statename"]) if known else None, ended, failed)]
    return found


def programs() -> list[ProgramState]:
    """Query all programs of this pipeline (or of the demonstration) in parallel."""
    known = supervised()
    asked = [
        one
        for one in demo.programs().values()
        if not (demo.active() and one.name in demo.WITHOUT)
        and one.name != "simulator"
        and (one.port or one.name in known)
    ]
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        return list(pool.map(lambda one: program_state(one, known.get(one.name)), asked))


def backlogs(settings: PulsarSettings) -> dict[tuple[str, str], int]:
    """Return messages not yet stored, by namespace and local topic name. Raises `PipelineError`."""
    admin = Admin(settings)
    found = {}
    for space in SPACES.values():
        for topic in admin.topics(f"{settings.tenant}/{space}"):
            found[space, topic.rsplit("/", 1)[-1]] = admin.backlog(topic, SUBSCRIPTION).messages
    return found


def letters(settings: PulsarSettings) -> dict[str, int]:
    """Return dead letters by program, by the broker's count since its start (cheap, even for a million)."""
    admin = Admin(settings)
    counts = {}
    for topic in admin.topics(f"{settings.tenant}/dead-letters"):
        local = topic.rsplit("/", 1)[-1]
        counts[local] = admin.backlog(full_name(settings.tenant, "dead-letters", local), "nobody").messages
    return {name: count for name, count in counts.items() if count}


def _rows(of: type[T], name: str) -> list[T]:
    """Return the rows of a statement of `sql/`. Raises `Unavailable` or a `psycopg.Error`."""
    with connect(load(DatabaseSettings), "status", read_only=True) as conn:
        conn.execute("SET statement_timeout = '30s'")
        return query.rows(conn, of, statement(name))


def instruments(waiting: dict[tuple[str, str], int] | None) -> list[InstrumentState]:
    """Return what is stored, per instrument and kind. Raises `Unavailable` or a `psycopg.Error`."""
    found = _rows(InstrumentState, "status_instruments")
    for one in found:
        if waiting is not None:
            one.backlog = waiting.get((SPACES[one.kind], local_name(one.venue, one.product_id)), 0)
    return found


def products_of(ran: Sequence[ProgramState]) -> list[ProductState]:
    """Return the products that producers report problems of."""
    found = []
    for program in ran:
        products = program.health.get("products")
        for product, about in products.items() if isinstance(products, dict) else ():
            if isinstance(about, dict) and (word := str(about.get("state"))) not in FINE_PRODUCTS:
                found.append(ProductState(program.name, str(product), word, str(about.get("reason") or "")))
    return found


def collect() -> State:
    """Collect everything."""
    settings = load(PulsarSettings)
    problems: list[str] = []
    waiting: dict[tuple[str, str], int] | None = None
    refused: dict[str, int] = {}
    stored: list[InstrumentState] = []
    candles: list[CandleState] = []
    archived: list[ArchiveState] = []
    ran = programs()
    problems += [
        f"{one.name} is {one.state}: {'; '.join(one.why) or 'no reason given'}" for one in ran if one.state not in FINE
    ]
    if not ran:
        problems.append("programs: cannot be queried, METRICS_BASE_PORT is 0")
    try:
        waiting = backlogs(settings)
        refused = letters(settings)
    except (PipelineError, ValueError, KeyError) as error:
        problems.append(f"broker: {error}")
    try:
        stored, candles = instruments(waiting), _rows(CandleState, "status_candles")
        archived = _rows(ArchiveState, "status_archive")
    except psycopg.errors.UndefinedTable:
        problems.append("database: the tables are not created yet")
    except (PipelineError, psycopg.Error) as error:
        problems.append(f"database: {' '.join(str(error).split())}")
    products = products_of(ran)
    problems += sentences.of_products(products) + sentences.missing(stored) + sentences.silent(stored, candles)
    return State(ran, stored, refused, list(dict.fromkeys(problems)), products, candles, archived)

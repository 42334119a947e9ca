"""Everything under supervisord: it comes up, nothing outlives it, what freezes is replaced, nothing starts twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from pipeline.core.programs import PROGRAMS
from pipeline.core.settings import PROJECT, is_setting
from pipeline.services import conf, preflight
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.folders import MARK
from pipeline.services.processes import Process, end, free_ports, free_range, recorded, wait_until
from tests.environment import UNMEASURED

UP_SECONDS = 240.0  # on an idle machine it takes four
WRITER = next(one for one in PROGRAMS if one.name == "trades-writer")
WATCHDOG = next(one for one in PROGRAMS if one.name == "watchdog")
OTHERS = [one.name for one in PROGRAMS if one.name not in ("trades-writer", "watchdog")]


class Supervised:
    """A supervisord of the test's own with broker, database, one writer and the watchdog."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pulsar, self.admin_port, self.database_port, dashboard, simulator = free_ports(5)
        self.base = free_range(30)
        self.env = {key: value for key, value in os.environ.items() if not is_setting(key)} | {
            **UNMEASURED,
            "SERVICES_DATA": str(folder),
            "STATE_DIR": str(folder / "state"),
            "PULSAR_PORT": str(pulsar),
            "PULSAR_ADMIN_PORT": str(self.admin_port),
            "PULSAR_MEMORY": "384m",
            "DATABASE_PORT": str(self.database_port),
            "DATABASE_MEMORY": "384m",
            "METRICS_BASE_PORT": str(self.base),
            "DASHBOARD_PORT": str(dashboard),
            "SIMULATOR_PORT": str(simulator),
            "WATCHDOG_SILENCE": "5",
            "WATCHDOG_GRACE": "90",
        }
        self.conf = conf.write(folder, without=OTHERS)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                conf.supervisord(self.conf),
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def process(self, name: str) -> Process | None:
        return recorded(self.folder / "run" / f"{name}.pid")

    def living(self) -> dict[str, Process]:
        return {file.stem: one for file in (self.folder / "run").glob("*.pid") if (one := recorded(file))}

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def healthy(self) -> bool:
        """Whether broker and database serve and the writer says that it reaches both.

        The writer's word alone is not enough: it said so before it had asked either. A broker that was stopped in the
        middle of its start then waited for its own start, and on a busy machine it needed SIGKILL.
        """
        broker, health = Broker(self.folder / "broker", 0, self.admin_port), self.base + WRITER.offset
        try:
            with psycopg.connect(self.database_url(), connect_timeout=5):
                writer = requests.get(f"http://127.0.0.1:{health}/health", timeout=15)
                return writer.status_code == broker.ask("brokers/health", 15).status_code == 200
        except (requests.RequestException, psycopg.Error, OSError):
            return False

    def watched(self, name: str) -> bool:
        """Whether the watchdog had an answer of this process."""
        try:
            found = requests.get(f"http://127.0.0.1:{self.base + WATCHDOG.offset}/health", timeout=5).json()
        except requests.RequestException:
            return False
        return name in found["answering"]

    def wait_healthy(self) -> None:
        ended = lambda: self.child is None or self.child.poll() is not None  # noqa: E731
        assert wait_until(lambda: ended() or self.healthy(), UP_SECONDS, 0.3), self.log[-4000:]
        assert not ended(), self.log[-4000:]

    def database_url(self) -> str:
        return Database(self.folder / "database", self.database_port).url()


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    one = Supervised(tmp_path_factory.mktemp("sup"))
    one.env["ENV_FILE"] = str(one.folder / "no.env")
    one.start()
    try:
        yield one
    finally:
        if one.child is not None and one.child.poll() is None:
            one.child.send_signal(signal.SIGTERM)
            one.child.wait(60)
        end(one.living().values(), signal.SIGKILL, 0)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["trades-writer", "database", "broker"])
def test_what_is_frozen_is_replaced(supervised: Supervised, name: str) -> None:
    """Prevents a pipeline that stands still because one process is alive but does nothing."""
    supervised.wait_healthy()
    assert wait_until(lambda: supervised.watched(name), UP_SECONDS, 0.3)
    frozen = supervised.process(name)
    assert frozen is not None
    frozen.send(signal.SIGSTOP)
    assert wait_until(lambda: not frozen.alive, UP_SECONDS, 0.3), supervised.log[-4000:]
    assert wait_until(lambda: supervised.process(name) is not None, UP_SECONDS, 0.3)
    supervised.wait_healthy()


@pytest.mark.faults
def test_nothing_outlives_supervisord_killed_and_the_next_one_comes_up(supervised: Supervised) -> None:
    """Prevents a second broker on the first one's data, and programs that nobody can stop."""
    supervised.wait_healthy()
    assert supervised.child is not None
    frozen = supervised.process("trades-writer")  # it cannot hear that supervisord is gone: the next start ends it
    assert frozen is not None
    frozen.send(signal.SIGSTOP)
    supervised.child.kill()
    supervised.child.wait()
    others = lambda: [one for one in supervised.living().values() if one != frozen]  # noqa: E731
    assert wait_until(lambda: not others(), 60, 0.2), supervised.living()
    supervised.start()
    assert wait_until(lambda: not frozen.alive, 60, 0.2)
    supervised.wait_healthy()


@pytest.mark.faults
def test_a_second_start_on_the_same_data_is_refused(supervised: Supervised) -> None:
    """Prevents two pipelines that fight for one data folder."""
    supervised.wait_healthy()
    done = _python(["-m", "pipeline.start"], supervised.env)
    assert done.returncode == 2
    assert "already running" in done.stderr
    supervised.wait_healthy()


@pytest.mark.faults
def test_stop_is_orderly_with_a_session_open_and_leaves_nothing(supervised: Supervised) -> None:
    """Prevents a stop that hangs on an open psql, needs force, or leaves a process or an unclean database."""
    supervised.wait_healthy()
    assert supervised.child is not None
    held = psycopg.connect(supervised.database_url(), autocommit=True)
    held.execute("SELECT 1")
    before = len(supervised.log)
    supervised.child.send_signal(signal.SIGTERM)
    supervised.child.wait(60)
    after = supervised.log[before:]
    assert not supervised.living()
    assert "database system is shut down" in after
    assert "SIGKILL" not in after
    assert after.index("process.stopped") < after.index("received fast shutdown request"), "programs stop first"


def _python(arguments: list[str], env: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=env, input=text, capture_output=True, text=True, cwd=PROJECT, timeout=120
    )


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a pipeline that nobody started yet."""
    env = Supervised(tmp_path / "data").env
    return env | {"ENV_FILE": str(tmp_path / "no.env")}


def test_what_is_off_or_external_ends_with_zero_and_says_so(alone: dict[str, str]) -> None:
    """Prevents a restart loop of what shall not run, and a private broker beside the external one."""
    for name, setting, value in (
        ("kraken", "KRAKEN_ENABLED", "false"),
        ("broker", "PULSAR_URL", "pulsar://127.0.0.1:1"),
        ("database", "DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/x"),
    ):
        done = _python(["-m", "pipeline.services.run", name], alone | {setting: value})
        assert done.returncode == 0
        assert setting in done.stdout
        assert "secret" not in done.stdout


def test_a_taken_port_is_named_before_anything_starts(alone: dict[str, str]) -> None:
    """Prevents half a pipeline beside somebody else's program."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = _python(["-m", "pipeline.start"], alone | {"DATABASE_PORT": port})
    assert done.returncode == 2
    assert port in done.stderr
    assert "DATABASE_PORT" in done.stderr
    assert not list(Path(alone["SERVICES_DATA"]).glob("run/*.pid"))


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(alone: dict[str, str]) -> None:
    """Prevents a traceback, and supervisord repeating what can never work."""
    done = _python(["-m", "pipeline.services.run", "broker"], alone | {"PULSAR_PORT": "many"})
    assert done.returncode == 2
    assert "PULSAR_PORT" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_leftovers_of_a_killed_supervisord_are_ended_and_strangers_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, str]
) -> None:
    """Prevents both: an old writer beside the new one, and the end of an innocent process with the old one's pid."""
    for key in (
        "SERVICES_DATA",
        "PULSAR_PORT",
        "PULSAR_ADMIN_PORT",
        "DATABASE_PORT",
        "METRICS_BASE_PORT",
        "DASHBOARD_PORT",
    ):
        monkeypatch.setenv(key, alone[key])
    left, stranger = (subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"]) for _ in range(2))
    try:
        ours, other = Process.of(left.pid), Process.of(stranger.pid)
        assert ours is not None
        assert other is not None
        ours.record(preflight.record_of("kraken"))
        Process(other.pid, other.started - 1).record(preflight.record_of("coinbase"))
        preflight.pass_gate(None)
        assert left.wait(10) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for child in (left, stranger):
            child.kill()
            child.wait()


def test_reset_asks_refuses_while_running_and_deletes_only_what_was_named(alone: dict[str, str]) -> None:
    """Prevents data lost by a slip of the finger, or under the feet of a running broker."""
    data = Path(alone["SERVICES_DATA"])
    for part in ("broker", "database"):
        (data / part).mkdir(parents=True)
        (data / part / "kept").touch()
        (data / part / MARK).touch()
    reset: Callable[..., subprocess.CompletedProcess[str]] = lambda *args, text="": _python(  # noqa: E731
        ["-m", "pipeline.services.reset", *args], alone, text
    )
    assert reset("broker", text="n\n").returncode == 1
    assert (data / "broker" / "kept").exists()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    try:
        living = Process.of(sleeper.pid)
        assert living is not None
        living.record(data / "run" / "broker.pid")
        refused = reset("broker", "--yes")
        assert refused.returncode == 2
        assert "stop it first" in refused.stderr
    finally:
        sleeper.kill()
        sleeper.wait()
    assert reset("broker", "--yes").returncode == 0
    assert not (data / "broker").exists()
    assert (data / "database" / "kept").exists()

"""A real broker and a real database for every test.

`services` is one private pair for the whole session (started on first use, ended with it, also after Ctrl-C; with
`pytest -n` each worker has a database of its own, and all share the broker), or the running one in `TEST_SERVICES_DIR`
(`python -m pipeline.services.dev start FOLDER`). Each test has its own Pulsar tenant and its own database, so nothing
leaks from one to the next. Tests that hurt the services use `fault_services`, a pair of their own module.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
import structlog

from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.settings import PROJECT, PulsarSettings, is_setting, load
from pipeline.services import credentials
from pipeline.services.instance import Instance
from pipeline.services.processes import free_ports
from simulator.testing import Simulator
from tests import environment
from tests.environment import MEASURED, MEASURED_FILES, UNMEASURED, Environment
from tests.fresh_database import fresh_database
from tests.order import LONGEST

FOLDERS = "market-data-tests-"
FAST_DISK_NEEDS = 6 << 30


environment.keep_in_python()
# No limit of time: a property that takes long on a busy machine is not false.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_configure(config: pytest.Config) -> None:
    """Start the broker that all workers share. One for each would cost 40 s of processor time a worker: 10 s until
    its code is compiled, the rest for doing nothing."""
    workers = getattr(config.option, "numprocesses", None)
    if not workers or hasattr(config, "workerinput") or "TEST_SERVICES_DIR" in os.environ:
        return
    folder = _fresh_folder()
    broker = Instance.at(folder, die_with_parent=True, memory="768m").broker
    broker.start(wait=False)
    os.environ["TEST_BROKER_DIR"] = str(folder)

    def end() -> None:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(end)


def _shared() -> Instance | None:
    """The instance whose broker all workers share."""
    return Instance.at(Path(folder)) if (folder := os.environ.get("TEST_BROKER_DIR")) else None


@pytest.fixture(scope="session")
def broker_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the token that every broker of the tests wants, beside the certificate that each of them has.

    They have the same keys, so that what a test sets for `services` is right for the pair that it may hurt too.
    """
    if kept := os.environ.get("TEST_SERVICES_DIR") or os.environ.get("TEST_BROKER_DIR"):
        return Instance.at(Path(kept)).pulsar_token
    folder = tmp_path_factory.mktemp("token")
    credentials.broker_certificate(folder)
    return credentials.broker_token(folder)[1]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Restore the umask, which every program sets, also one that a test calls in this process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, broker_token: Path) -> None:
    """Neither the developer's `.env` nor settings in the shell reach a test; the token of its broker does."""
    for name in list(os.environ):
        if is_setting(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ENV_FILE", str(PROJECT / "tests" / "no.env"))
    # A program that is called inside the tests' own process must not decide how that ends.
    monkeypatch.setattr("pipeline.core.runtime._leave", lambda code: None)
    monkeypatch.setenv("PULSAR_TOKEN_FILE", str(broker_token))
    monkeypatch.setenv("PULSAR_TLS_CA_FILE", str(broker_token.with_name("tls.pem")))


@pytest.fixture(autouse=True, scope="module")
def _measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lines of the simulator are counted in its own tests only: elsewhere it is the world, and runs all the time."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "simulator":
            patch.setenv("COVERAGE_PROCESS_CONFIG", "")
        yield


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """A test that configures logging binds it to the stdout of that test, which is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, broker_token: Path) -> Iterator[Instance]:
    """The broker and the database of this session: `pulsar_url`, `pulsar_admin_url`, `database_url()`, which carries
    the password, and `pulsar_client()`, a bare client that has the token.

    Shared by all tests: do not stop them, take `fault_services` for that.
    """
    if kept := os.environ.get("TEST_SERVICES_DIR"):
        instance = Instance.at(Path(kept))
        instance.start()
        yield instance
        return
    yield from _private(broker_token, _shared())


@pytest.fixture(scope="module")
def fault_services(broker_token: Path) -> Iterator[Instance]:
    """A pair that this module may hurt: `.broker` and `.database` have `kill`, `freeze`, `thaw`, `stop`, `start`,
    `restart`; `start` waits until the service answers."""
    yield from _private(broker_token)


def _private(broker_token: Path, shared: Instance | None = None) -> Iterator[Instance]:
    folder = _fresh_folder()
    for name in ("token.key", "tls.key"):
        credentials.kept(folder / "broker" / name, broker_token.with_name(name).read_bytes)
    instance = Instance.at(folder, die_with_parent=True, memory="384m")
    if shared is not None:
        instance.broker = shared.broker
    try:
        instance.start()
        yield instance
    finally:
        instance.database.thaw()
        if shared is None:
            instance.broker.thaw()
            instance.broker.kill()  # nothing of it is looked at again; an orderly stop takes seconds
        instance.database.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _fresh_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-", dir=_fast_disk()))


def _fast_disk() -> Path | None:
    """Memory where there is plenty: a database for each test is there in 30 ms instead of 450, most of it new files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < FAST_DISK_NEEDS:
        return None
    for left in memory.glob(f"{FOLDERS}*"):  # of test runs that were killed
        if not Path("/proc", left.name.removeprefix(FOLDERS).partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return memory


@pytest.fixture
def tenant() -> str:
    """A Pulsar tenant that nobody used; the bootstrap creates it."""
    return f"test-{secrets.token_hex(5)}"


@pytest.fixture
def database_url(services: Instance) -> Iterator[str]:
    """An empty, migrated database of this test's own, as superuser, with the password in it; dropped afterwards."""
    with fresh_database(services) as url:
        yield url


@pytest.fixture
def fault_database_url(fault_services: Instance) -> Iterator[str]:
    """The same in the database of `fault_services`."""
    with fresh_database(fault_services) as url:
        yield url


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The faults that a test sets in its simulator do not reach the next one."""
    made = request.getfixturevalue("simulator") if "simulator" in request.fixturenames else None
    yield
    if isinstance(made, Simulator):
        made.clear()


@pytest.fixture
def env(
    services: Instance, database_url: str, tenant: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Environment:
    """`env(KRAKEN_WS_URL=...)`: the environment of a subprocess in which all addresses are this test's."""

    def make(**overrides: object) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
        kept |= MEASURED if request.path.stem.removeprefix("test_") in MEASURED_FILES else UNMEASURED
        return kept | {
            "PULSAR_URL": services.pulsar_url,
            "PULSAR_ADMIN_URL": services.pulsar_admin_url,
            "PULSAR_TOKEN_FILE": str(services.pulsar_token),
            "PULSAR_TLS_CA_FILE": str(services.pulsar_certificate),
            "PULSAR_TENANT": tenant,
            "DATABASE_URL": database_url,
            "METRICS_BASE_PORT": "0",
            "DASHBOARD_PORT": "0",
            "STATE_DIR": str(tmp_path / "state"),
            "LOG_FORMAT": "json",
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            **{key: str(value) for key, value in overrides.items()},
        }

    return make


@pytest.fixture
def in_env(env: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`in_env(...)`: the same for code that runs inside the test's own process."""

    def enter(**overrides: object) -> None:
        for key, value in env(**overrides).items():
            monkeypatch.setenv(key, value)

    return enter


@pytest.fixture
def stop(in_env: Callable[..., None]) -> Iterator[threading.Event]:
    """For code that runs inside the test's own process, with the topics' namespaces made; set at the end."""
    in_env()
    bootstrap.broker(load(PulsarSettings))
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def bus(stop: threading.Event) -> Iterator[Bus]:
    """A client of the test's broker and its publishers."""
    made = Bus(load(PulsarSettings), stop)
    yield made
    made.close()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port of 127.0.0.1 that is free now."""
    return lambda: free_ports(1)[0]


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter for subprocesses."""
    return sys.executable


@pytest.fixture
def rig(bus: Bus, database_url: str, stop: threading.Event) -> Iterator[Any]:
    """Every writer, running, with one good message of each kind stored."""
    from tests.writer_help import NAMES, Rig

    with psycopg.connect(database_url, autocommit=True) as conn:
        made = Rig(bus, conn, stop)
        for name in NAMES:
            made.send_good(name)  # the first one sets the scale of the hours
        made.start()
        made.settled()
        yield made
        stop.set()
        made.join()

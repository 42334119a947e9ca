"""A Pulsar and a PostgreSQL with TLS, token and password, as somebody else runs them.

Prevents: a pipeline that works on its private services only; one that trusts a stranger's certificate; one that says
nothing helpful when it is refused; a token or password in a log, an error or a list of processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest
import requests
from psycopg import sql

from bench.market import messages
from pipeline.broker import bootstrap
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop
from pipeline.core.settings import PROJECT, DatabaseSettings, PulsarSettings, is_setting, load
from pipeline.database.connection import connect
from pipeline.ops import doctor_database, doctor_services
from pipeline.services.processes import wait_until
from tests.secure_help import ADMIN, DATABASE, PIPELINE, TENANT, WRITER, Secure, grant, nothing_shown, token_of

pytestmark = pytest.mark.faults

TRADES = 400

Environment = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Both services, and what their owner makes for the pipeline: a tenant that it governs, an empty database."""
    made = Secure(tmp_path_factory.mktemp("secure"))
    try:
        made.start()
        answer = requests.put(
            f"{made.what.admin_url}/admin/v2/tenants/{TENANT}",
            verify=str(made.authority.file),
            timeout=30,
            json={"adminRoles": [PIPELINE], "allowedClusters": ["standalone"]},
            headers={"Authorization": f"Bearer {made.token(ADMIN)}"},
        )
        assert answer.status_code == 204, answer.text
        with made.connect() as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        yield made
    finally:
        made.close()


@pytest.fixture
def theirs(secure: Secure, tmp_path: Path) -> Environment:
    """`theirs(...)`: the environment of a process whose broker and database these are; None leaves a setting out."""

    def make(**overrides: object) -> dict[str, str]:
        token = tmp_path / "token"
        token.write_text(secure.token(PIPELINE) + "\n")
        kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
        given = {
            "PULSAR_URL": secure.what.url,
            "PULSAR_ADMIN_URL": secure.what.admin_url,
            "PULSAR_TENANT": TENANT,
            "PULSAR_TOKEN_FILE": token,
            "PULSAR_TLS_CA_FILE": secure.authority.file,
            "DATABASE_URL": secure.store.url(DATABASE),
            "METRICS_BASE_PORT": 0,
            "STATE_DIR": tmp_path / "state",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
            "PYTHONPATH": PROJECT,
            "PYTHONUNBUFFERED": 1,
            **overrides,
        }
        return kept | {key: str(value) for key, value in given.items() if value is not None}

    return make


@pytest.fixture
def in_theirs(theirs: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The same for code inside the test's own process."""

    def enter(**overrides: object) -> None:
        for key, value in theirs(**overrides).items():
            monkeypatch.setenv(key, value)

    return enter


def test_the_whole_way(
    secure: Secure,
    theirs: Environment,
    in_theirs: Callable[..., None],
    python: str,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    """Prevents: a bootstrap that needs the rights of the cluster's owner, a writer that needs more than it does, and a
    way that is not encrypted somewhere."""
    in_theirs()
    first = subprocess.run([python, "-m", "pipeline.bootstrap"], env=theirs(), capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "broker.policy_missing" not in first.stdout, first.stdout
    with secure.connect(DATABASE) as conn:
        name, password = sql.Identifier(WRITER), sql.Literal(secure.password)
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE market_data_writer").format(name, password))
    grant(secure, WRITER)
    log, health = tmp_path / "writer.log", free_port()
    with log.open("wb") as out:
        writer = subprocess.Popen(
            [python, "-m", "consumers.trades"],
            stdout=out,
            stderr=out,
            env=theirs(
                DATABASE_URL=secure.store.url(DATABASE, user=WRITER),
                PULSAR_TOKEN=secure.token(WRITER),
                METRICS_BASE_PORT=health - BY_NAME["trades-writer"].offset,
            ),
        )
    bus = Bus(load(PulsarSettings), Stop())
    try:
        publisher = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
        for record in messages(0, TRADES, 4):
            record.product_id = "BTC-USD"
            assert publisher.send(record)
        assert wait_until(lambda: publisher.flush(1.0), 60)
        with connect(load(DatabaseSettings), "test") as conn:

            def stored() -> int:
                (count,) = conn.execute("SELECT count(*) FROM trades").fetchall()[0]
                return int(count)

            assert wait_until(lambda: stored() == TRADES, 90, 0.1), log.read_text()[-2000:]
            address = f"http://127.0.0.1:{health}/health"

            def knows_its_backlog() -> bool:
                return requests.get(address, timeout=10).json()["backlog_messages"] == 0

            assert wait_until(knows_its_backlog, 60, 0.2), requests.get(address, timeout=10).text
            assert requests.get(address, timeout=10).status_code == 200
            query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s"
            assert set(conn.execute(query, (WRITER,)).fetchall()) == {(True,)}
        assert log.read_text().count("broker.policy_missing") == 1, log.read_text()
        nothing_shown(secure, first.stdout + first.stderr, log.read_text())
    finally:
        bus.close()
        writer.send_signal(signal.SIGTERM)
        assert writer.wait(60) == 0
    status = subprocess.run([python, "-m", "pipeline.status", "--json"], env=theirs(), capture_output=True, text=True)
    (one,) = json.loads(status.stdout)["instruments"]
    assert (one["rows"], one["missing"], one["backlog"]) == (TRADES, 0, 0)
    found = [*doctor_services.broker(), *doctor_database.database()]
    assert {(one.what, one.verdict) for one in found} == {
        (what, "ok") for what in ("broker", "policies", "schemas", "database", "tables")
    }, found
    texts = [str(found), status.stdout + status.stderr, log.read_text()]
    nothing_shown(secure, *texts, secure.broker.log_file.read_text(), secure.database.log_file.read_text())


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("no token", "requires a token; set PULSAR_TOKEN_FILE"),
        ("another's token", "does not accept the token; check PULSAR_TOKEN"),
        ("another's broker", "PULSAR_TLS_CA_FILE"),
        ("public authorities", "PULSAR_TLS_CA_FILE"),
        ("file without certificate", "PULSAR_TLS_CA_FILE: contains no certificate"),
        ("no such file", "PULSAR_TLS_CA_FILE: is not an existing file"),
        ("another name of the broker", "not valid for 'localhost'"),
        ("no such tenant", "tenant nobody does not exist"),
        ("wrong password", "password authentication failed"),
        ("no password", "no password supplied"),
        ("another name of the database", 'does not match host name "localhost"'),
        ("no TLS", "no pg_hba.conf entry"),
    ],
)
def test_a_refusal_ends_with_2_and_one_sentence(
    secure: Secure, theirs: Environment, python: str, tmp_path: Path, case: str, sentence: str
) -> None:
    """Prevents: a program that waits for ever, or ends with a traceback, when only a setting can help."""
    store = secure.store
    changed: dict[str, dict[str, object]] = {
        "no token": {"PULSAR_TOKEN_FILE": None},
        "another's token": {"PULSAR_TOKEN": token_of(b"x" * 32, PIPELINE)},
        "another's broker": {"PULSAR_TLS_CA_FILE": secure.stranger.file},
        "public authorities": {"PULSAR_TLS_CA_FILE": None},
        "file without certificate": {"PULSAR_TLS_CA_FILE": tmp_path / "token"},
        "no such file": {"PULSAR_TLS_CA_FILE": tmp_path / "nothing"},
        "another name of the broker": {"PULSAR_ADMIN_URL": secure.what.admin_url.replace("127.0.0.1", "localhost")},
        "no such tenant": {"PULSAR_TENANT": "nobody"},
        "wrong password": {"DATABASE_URL": store.url(DATABASE, password=f"{secure.password}x")},
        "no password": {"DATABASE_URL": store.url(DATABASE).replace(f":{secure.password}@", "@")},
        "another name of the database": {"DATABASE_URL": store.url(DATABASE, host="localhost")},
        "no TLS": {"DATABASE_URL": store.url(DATABASE).replace("verify-full", "disable")},
    }
    done = subprocess.run(
        [python, "-m", "pipeline.bootstrap"], env=theirs(**changed[case]), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("bootstrap: ")
    assert done.stderr.count("\n") == 1, done.stderr
    nothing_shown(secure, done.stdout, done.stderr)


@pytest.mark.parametrize("of", ["broker", "database"])
def test_a_certificate_that_may_be_renewed_is_waited_for(
    secure: Secure, theirs: Environment, python: str, tmp_path: Path, of: str
) -> None:
    """Prevents: silence while it waits, and a stranger's broker or database that is talked to all the same."""
    changed = {
        "broker": {"PULSAR_URL": secure.what.url.replace("127.0.0.1", "localhost")},  # the admin address is right
        "database": {"DATABASE_URL": secure.store.url(DATABASE, authority=secure.stranger.file)},
    }[of]
    log = tmp_path / "log"
    with log.open("wb") as out:
        writer = subprocess.Popen([python, "-m", "consumers.trades"], env=theirs(**changed), stdout=out, stderr=out)
    try:
        assert wait_until(lambda: "certificate verify failed" in log.read_text(), 60, 0.1), log.read_text()
        assert writer.poll() is None
        nothing_shown(secure, log.read_text())
    finally:
        writer.kill()
        writer.wait()


def test_a_renewed_token_needs_no_restart(
    secure: Secure, in_theirs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a process that shows its first token for ever; also that public authorities are not found."""
    in_theirs(PULSAR_TLS_CA_FILE="")
    monkeypatch.setattr(certifi, "where", lambda: str(secure.authority.file))
    token = tmp_path / "token"
    settings = load(PulsarSettings)
    admin, bus = Admin(settings), Bus(settings, Stop())
    try:
        assert "trades" in admin.namespaces(TENANT) or bootstrap.broker(settings) is None
        token.write_text(token_of(b"x" * 32, PIPELINE))
        with pytest.raises(Unavailable, match="does not accept the token"):  # it did before: waited for, not given up
            admin.namespaces(TENANT)
        token.write_text(secure.token(PIPELINE))
        assert "trades" in admin.namespaces(TENANT)
        assert bus.publisher("trades", "kraken", "ETH-USD", "trades", "test").trouble is None
    finally:
        bus.close()


def test_one_of_two_hosts_may_be_down(
    secure: Secure, in_theirs: Callable[..., None], free_port: Callable[[], int]
) -> None:
    """Prevents: a writer that ends for good because a standby refuses it while the first host is down."""
    url, down = secure.store.url(DATABASE, password="wrong"), free_port()
    in_theirs(DATABASE_URL=url)
    with pytest.raises(WrongUse, match="check DATABASE_URL"):
        connect(load(DatabaseSettings), "test")
    in_theirs(DATABASE_URL=url.replace("@127.0.0.1:", f"@127.0.0.1:{down},127.0.0.1:"))
    with pytest.raises(Unavailable, match="check DATABASE_URL"):
        connect(load(DatabaseSettings), "test")

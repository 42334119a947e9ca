"""Prevents: a database, broker or file of ours that another account of this machine reaches, or a page in a browser.

Seen: every local account was superuser of the database (COPY ... TO PROGRAM ran as us) and owned the broker's admin
interface, which also took forms that another site's page had sent.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pulsar
import pytest
import requests

from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE, PROJECT
from pipeline.database.migrate import migrate
from pipeline.services.database import NAME, Database
from pipeline.services.instance import Instance

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as a checkout is; pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="neighbours-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def instance(open_folder: Path) -> Iterator[Instance]:
    """A broker and a database there, in use."""
    made = Instance.at(open_folder / "data", die_with_parent=True, memory="384m")
    try:
        made.start()
        with psycopg.connect(made.database_url(NAME), autocommit=True) as conn:
            migrate(conn)
        client = made.pulsar_client()
        client.create_producer("persistent://public/default/theirs").send(b"ours")
        client.close()
        yield made
    finally:
        made.broker.kill()
        made.database.stop()


def _as_nobody(look: Callable[[], Any]) -> Any:
    """What `look` returns when it runs as nobody, in a process of its own."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(look()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(f"failed: {error!r}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = json.loads(answer.read())
    os.waitpid(pid, 0)
    assert not str(found).startswith("failed"), found
    return found


@root_only
def test_another_account_opens_no_file_of_ours(instance: Instance) -> None:
    files = [str(path) for path in instance.folder.rglob("*")]
    assert any(path.endswith(("token.key", "passwords")) for path in files)

    def readable() -> list[str]:
        found = []
        for path in files:
            try:
                os.close(os.open(path, os.O_RDONLY))
                found.append(path)
            except OSError:
                continue
        return found

    assert _as_nobody(readable) == []


@root_only
def test_another_account_does_not_touch_our_processes(instance: Instance) -> None:
    """Prevents a server that runs as an account which others are, too: they could read its memory and stop it."""
    pids = [one.process.pid for one in (instance.broker, instance.database) if one.process is not None]
    assert len(pids) == 2

    def touched() -> list[str]:
        found = []
        for pid in pids:
            for name in ("environ", "mem", "maps"):
                try:
                    Path(f"/proc/{pid}/{name}").open("rb").close()
                    found.append(f"{pid} {name}")
                except OSError:
                    continue
            try:
                os.kill(pid, 0)
                found.append(f"{pid} signal")
            except PermissionError:
                continue
        return found

    assert _as_nobody(touched) == []


def test_secrets_logs_and_data_are_for_us_alone(instance: Instance) -> None:
    """Prevents what only the folder above hides, until somebody opens that."""
    for folder in (instance.folder, instance.broker.what.folder, instance.database.what.folder):
        assert stat.S_IMODE(folder.stat().st_mode) in (0o700, 0o711)
    assert isinstance(instance.database.what, Database)
    data = instance.database.what.data
    secret = [
        instance.pulsar_token,
        instance.pulsar_token.with_name("token.key"),
        instance.pulsar_token.with_name("tls.key"),
        instance.database.what.passwords_file,
        instance.broker.log_file,
        instance.database.log_file,
        data / "pg_hba.conf",
        data / "pipeline.conf",
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in secret} == {0o600}


@pytest.mark.parametrize("user", [ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE, "market_data_reader", "root", "nobody"])
@pytest.mark.parametrize("database", [NAME, "postgres", "template1"])
def test_nobody_enters_the_database_without_its_password(instance: Instance, user: str, database: str) -> None:
    assert isinstance(instance.database.what, Database)
    place = {"port": instance.database.what.port, "dbname": database, "user": user}
    for host, password in (("127.0.0.1", None), ("127.0.0.1", "postgres"), ("localhost", ""), ("/tmp", None)):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host=host, password=password, passfile="/dev/null", connect_timeout=5, **place)  # type: ignore[arg-type]


def test_programs_are_no_superusers(instance: Instance) -> None:
    """Prevents a hole in a program from being a way to run commands on this machine."""
    for role in (PROGRAM_ROLE, OWNER_ROLE):
        with psycopg.connect(instance.database_url(NAME, user=role), autocommit=True) as conn:
            assert conn.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = current_user"
            ).fetchone() == (False, False, False, False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("COPY (SELECT 1) TO PROGRAM 'cat'")
        for other in ("postgres", "template1"):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(instance.database_url(other, user=role))


PATHS = (
    "/metrics",
    "/metrics/",
    "/admin/v2/clusters",
    "/admin/v2/brokers/health",
    "/admin/v2/brokers/ready",
    "/admin/v2/brokers/configuration/runtime",
    "/admin/v2/broker-stats/topics",
    "/admin/v2/tenants",
    "/admin/v2/persistent/public/default",
    "/admin/v2/persistent/public/default/theirs/terminate",
    "/admin/v2/persistent/public/default/theirs/subscription/x/skip_all",
    "/admin/v2/persistent/public/default/theirs",
    "/admin/v2/persistent/public/default/theirs/subscription/x/resetcursor/0",
    "/admin/v2/worker/cluster",
    "/admin/v3/functions/public/default",
    "/admin/v3/packages/function/public/default",
    "/admin/clusters",
    "/lookup/v2/topic/persistent/public/default/theirs",
    "/topics/persistent/public/default/theirs",
    "/ws/v2/producer/persistent/public/default/theirs",
    "/ws/v2/reader/persistent/public/default/theirs",
    "/",
)


@pytest.mark.parametrize("path", PATHS)
def test_the_brokers_admin_answers_nobody_without_the_token(instance: Instance, path: str) -> None:
    """Also not a page of another site: its forms go out without the header, under whatever name it was reached."""
    forged = "eyJhbGciOiAibm9uZSJ9.eyJzdWIiOiAibWFya2V0LWRhdGEifQ."  # {"alg": "none"}, {"sub": "market-data"}
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {forged}"},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"},
    ):
        for method in ("GET", "POST", "PUT", "DELETE"):
            address = f"{instance.pulsar_admin_url}{path}"
            how: dict[str, Any] = {"data": "a=b", "timeout": 30, "verify": str(instance.pulsar_certificate)}
            answer = requests.request(method, address, headers=headers, allow_redirects=False, **how)
            assert answer.status_code in (401, 404) or (path == "/metrics" and answer.is_redirect), (method, headers)
            assert b"theirs" not in answer.content.replace(path.encode(), b"")


def test_a_client_without_the_token_neither_reads_nor_writes(instance: Instance) -> None:
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
    options: dict[str, Any] = {"logger": quiet, "operation_timeout_seconds": 5}  # it tries until then
    client = pulsar.Client(instance.pulsar_url, tls_trust_certs_file_path=str(instance.pulsar_certificate), **options)
    topic = "persistent://public/default/theirs"
    try:
        with pytest.raises(pulsar.PulsarException):
            client.create_producer(topic)
        with pytest.raises(pulsar.PulsarException):
            client.create_reader(topic, pulsar.MessageId.earliest)
    finally:
        client.close()


def test_a_services_log_is_plain_text(python: str) -> None:
    """Prevents: a terminal that another account writes to, by the name under which it knocks at the database's port."""
    said, more = "\x1b]0;owned\x07\x9b\u202e".encode() + b"\tone\n", b"\r\x1b[2Jtwo\n"
    service = f"import os; os.write(1, {said!r}); os.write(2, {more!r})"
    become = (
        "import os, sys; from pipeline.services import run; run.speak_plainly(); os.execv(sys.executable, sys.argv)"
    )
    command = [python, "-c", become, "-c", service]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=PROJECT)
    first, *others = done.stdout.splitlines()
    assert first == "?]0;owned??????\tone"
    assert others == ["??[2Jtwo"]
    assert not done.stderr

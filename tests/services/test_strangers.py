"""Prevents: a password, a token or trust given to another account's program that listens on a port of ours.

Any account can take a port while our service is down: before the start, after a crash, or when nothing of ours runs and
somebody types `scripts/psql`. Seen: libpq sent the password in clear to a server that asked for it, and every client
sent the broker's token to whoever took the connection; a false broker could then feed the writers.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pulsar
import pytest
import requests

from pipeline.broker.admin import Admin
from pipeline.broker.client import new_client
from pipeline.core.errors import PipelineError, Unavailable, WrongUse
from pipeline.core.health import HealthServer
from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE, PROJECT, DatabaseSettings, PulsarSettings, load
from pipeline.duckdb import EXTENSIONS, _load_extensions
from pipeline.services import credentials, local, local_http
from pipeline.services.processes import free_ports
from pipeline.watchdog import database_answers

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
# AuthenticationCleartextPassword, AuthenticationMD5Password, AuthenticationOk with ReadyForQuery.
ASKS = {
    "in clear": b"R\0\0\0\x08\0\0\0\x03",
    "as md5": b"R\0\0\0\x0c\0\0\0\x05salt",
    "for nothing": b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
}


class Stranger:
    """Takes every connection, and keeps what is said to it."""

    def __init__(self, talk: Callable[[socket.socket], bytes]) -> None:
        self.heard = b""
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._talk = talk
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                with peer, suppress(OSError):
                    peer.settimeout(5)
                    self.heard += self._talk(peer)

    def close(self) -> None:
        self._listener.close()


def _database(ask: bytes) -> Callable[[socket.socket], bytes]:
    def talk(peer: socket.socket) -> bytes:
        heard = peer.recv(4096)
        if heard == SSL_REQUEST:
            peer.sendall(b"N")
            heard += peer.recv(4096)
        peer.sendall(ask)
        return heard + peer.recv(4096)

    return talk


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline of its own that was started once, and is down."""
    monkeypatch.setenv("SERVICES_DATA", str(tmp_path))
    for name in ("PULSAR_TOKEN_FILE", "PULSAR_TLS_CA_FILE"):
        monkeypatch.delenv(name)
    credentials.passwords(tmp_path / "database" / "passwords")
    broker = local.broker()
    assert broker is not None
    broker.make_credentials()
    return tmp_path


@pytest.fixture(params=list(ASKS))
def false_database(
    request: pytest.FixtureRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stranger, str]]:
    made = Stranger(_database(ASKS[request.param]))
    monkeypatch.setenv("DATABASE_PORT", str(made.port))
    yield made, request.param
    made.close()
    secrets = credentials.passwords(data / "database" / "passwords").values()
    assert made.connections
    assert not [one for one in secrets if one.encode() in made.heard]


def test_no_program_shows_the_password(false_database: tuple[Stranger, str]) -> None:
    from pipeline.database.connection import connect

    for role in (PROGRAM_ROLE, OWNER_ROLE, ADMIN_ROLE):
        with pytest.raises(Unavailable, match="what listens on DATABASE_PORT is not ours"):
            connect(load(DatabaseSettings), "test", role=role)


def test_no_service_takes_it_for_ours(false_database: tuple[Stranger, str]) -> None:
    database = local.database()
    assert database is not None
    assert not database.ready()


def test_no_tool_shows_the_password(false_database: tuple[Stranger, str], python: str) -> None:
    for arguments in (["-c", "SELECT 1"], ["--admin", "-c", "SELECT 1"]):
        command = [python, "-m", "pipeline.services.tools", "psql", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60)
        assert done.returncode == 2
        assert "requirement" in done.stderr, done.stderr
    made = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    _load_extensions(made, ["postgres"])
    assert "postgres" in EXTENSIONS
    with pytest.raises(duckdb.Error, match="requirement"):
        made.execute(f"ATTACH '{load(DatabaseSettings).conninfo}' AS db (TYPE postgres, READ_ONLY)")


def test_a_program_waits_until_the_stranger_is_gone(false_broker: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: programs that end with exit code 2, and so stay down, because an account took a port for a second."""
    from pipeline.database.connection import connect

    said = b"SFATAL\0C28P01\0Mpassword authentication failed for user\0\0"
    refuses = Stranger(_database(b"E" + (4 + len(said)).to_bytes(4, "big") + said))
    monkeypatch.setenv("DATABASE_PORT", str(refuses.port))
    for supervised, kind in ((False, WrongUse), (True, Unavailable)):
        if supervised:
            monkeypatch.setenv("SUPERVISOR_ENABLED", "1")
        with pytest.raises(kind, match="check DATABASE_PORT"):
            connect(load(DatabaseSettings), "test")
        with pytest.raises(kind, match="set METRICS_BASE_PORT"):
            HealthServer("test", refuses.port, lambda: (True, {}))
    refuses.close()
    with pytest.raises(Unavailable):
        Admin(load(PulsarSettings)).clusters()


@pytest.fixture(params=["plain", "with a certificate"])
def false_broker(
    request: pytest.FixtureRequest, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stranger]:
    """On both ports. Its certificate is made as ours is."""
    (tmp_path / "stranger").mkdir()
    key, certificate = credentials.broker_certificate(tmp_path / "stranger")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def talk(peer: socket.socket) -> bytes:
        if request.param == "plain":
            return peer.recv(65536)
        with context.wrap_socket(peer, server_side=True) as inside:
            return inside.recv(65536)

    made = Stranger(talk)
    monkeypatch.setenv("PULSAR_PORT", str(made.port))
    monkeypatch.setenv("PULSAR_ADMIN_PORT", str(made.port + 1 if made.port < 65535 else 1))
    monkeypatch.setattr(PulsarSettings, "admin", property(lambda _: f"https://127.0.0.1:{made.port}"))
    yield made
    made.close()
    assert made.connections
    assert (data / "broker" / "token").read_bytes() not in made.heard


def test_no_client_shows_the_token_or_believes_the_broker(false_broker: Stranger) -> None:
    settings = load(PulsarSettings)
    client = new_client(settings)
    try:
        with pytest.raises(pulsar.PulsarException):
            client.create_producer(f"persistent://{settings.tenant}/trades/kraken.btc-usd")
    finally:
        client.close()


def test_no_request_shows_the_token(false_broker: Stranger) -> None:
    with pytest.raises(PipelineError):
        Admin(load(PulsarSettings)).clusters()
    broker = local.broker()
    assert broker is not None
    for one in (broker, type(broker)(broker.folder, broker.port, false_broker.port)):
        assert not one.ready()


def test_a_proxy_sees_nothing_of_this_machine(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the broker's token in the log of a proxy, and programs that seem to be down because there is one."""
    proxy = Stranger(lambda peer: peer.recv(65536))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    server = HealthServer("test", 0, lambda: (True, {}))
    try:
        assert local_http.ask(f"http://127.0.0.1:{server.port}/health", 5).json()["ok"]
        (free,) = free_ports(1)
        broker = local.broker()
        assert broker is not None
        with pytest.raises(requests.RequestException):
            type(broker)(broker.folder, free, free).ask("brokers/ready", 5)
        assert not proxy.connections
    finally:
        server.close()
        proxy.close()


def test_the_watchdog_is_not_given_away(false_database: tuple[Stranger, str]) -> None:
    """It logs in as superuser, every two seconds."""
    from psycopg.conninfo import make_conninfo

    from pipeline.core.settings import PRIVATE_DATABASE

    database = local.database()
    assert database is not None
    assert not database_answers(make_conninfo(database.url("postgres"), **PRIVATE_DATABASE))


def test_keys_are_for_us_alone_and_belong_together(tmp_path: Path) -> None:
    """Prevents a broker that shows a certificate of a key that it does not have, after one of two files was lost."""
    key, certificate = credentials.broker_certificate(tmp_path / "broker")
    first = certificate.read_bytes()
    assert {file.stat().st_mode & 0o777 for file in (key, certificate)} == {0o600}
    certificate.unlink()
    assert credentials.broker_certificate(tmp_path / "broker")[1].read_bytes() == first
    key.unlink()
    assert credentials.broker_certificate(tmp_path / "broker")[1].read_bytes() != first
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)

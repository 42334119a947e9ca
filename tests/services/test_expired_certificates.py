"""A broker or a database whose certificate expired an hour ago, stood in for by small servers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.broker.admin import Admin
from pipeline.core.errors import Unavailable
from pipeline.core.settings import DatabaseSettings, PulsarSettings
from pipeline.database.connection import connect
from tests.secure_help import Authority

Server = Callable[[bytes], int]
SSL_REQUEST = 8  # bytes with which a PostgreSQL client asks for TLS; the server says "S"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def serve(authority: Authority) -> Iterator[Server]:
    """`serve(greeting)`: the port of a server that sends `greeting` and then shows its expired certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1", valid_h=-1))
    servers = []

    def start(greeting: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            with suppress(OSError):  # closed at the end of the test
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):  # the client breaks off, as it should
                        if greeting:
                            connection.recv(SSL_REQUEST)
                            connection.sendall(greeting)
                        context.wrap_socket(connection, server_side=True)

        threading.Thread(target=answer, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        server.close()


def test_of_the_broker_is_waited_for(serve: Server, authority: Authority) -> None:
    """Prevents: programs that end for good, or go on unprotected, when their owner forgot to renew it."""
    url = f"https://127.0.0.1:{serve(b'')}"
    admin = Admin(PulsarSettings(url="pulsar+ssl://127.0.0.1:6651", admin_url=url, tls_ca_file=authority.file))
    with pytest.raises(Unavailable, match="certificate has expired"):
        admin.clusters()


def test_of_the_database_is_waited_for(serve: Server, authority: Authority) -> None:
    """Prevents: the same."""
    port = serve(b"S")
    url = f"postgresql://somebody@127.0.0.1:{port}/market_data?sslmode=verify-full&sslrootcert={authority.file}"
    with pytest.raises(Unavailable, match="certificate verify failed"):
        connect(DatabaseSettings(url=SecretStr(url)), "test")

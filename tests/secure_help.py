"""A broker and a database as a careful owner runs them: TLS only, token and password wanted, rights by role."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import psycopg
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.broker.topics import NAMESPACES
from pipeline.services.accounts import stand_in
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.instance import Service
from pipeline.services.processes import free_ports

ADMIN, PIPELINE = "admin", "pipeline"  # roles of the broker; only the first may create tenants


class Authority:
    """A certificate authority: `file` is what its users trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._made = _certificate(self._name, self._name, self._key.public_key(), self._key, None)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._made.public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str, valid_h: float = 24) -> tuple[Path, Path]:
        """(certificate, key) of a server that is `host` and nobody else, until `valid_h` hours from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = _certificate(subject, self._name, key.public_key(), self._key, host, valid_h)
        certificate, private = self._folder / f"{host}.crt", self._folder / f"{host}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8  # the only one that the broker reads
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, form, encryption_algorithm=serialization.NoEncryption())
        )
        return certificate, private


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    host: str | None,
    valid_h: float = 24,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now + datetime.timedelta(hours=valid_h))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    if host is not None:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def token_of(key: bytes, role: str) -> str:
    """What `pulsar tokens create --secret-key ... --subject role` gives."""
    return jwt.encode({"sub": role}, key, algorithm="HS256")


@dataclass(frozen=True)
class SecureBroker(Broker):
    """With a certificate of `authority`; `key` signs the tokens."""

    key: bytes = b""
    authority: Path = Path()
    certificate: tuple[Path, Path] = (Path(), Path())

    def _settings(self) -> dict[str, str]:
        own = f'{{"token":"{token_of(self.key, ADMIN)}"}}'
        return super()._settings() | {
            "tlsCertificateFilePath": str(self.certificate[0]),
            "tlsKeyFilePath": str(self.certificate[1]),
            "tlsTrustCertsFilePath": str(self.authority),
            "tokenSecretKey": f"data:;base64,{base64.b64encode(self.key).decode()}",
            "superUserRoles": ADMIN,
            # the broker's own client, with which it checks its health
            "brokerClientTrustCertsFilePath": str(self.authority),
            "brokerClientAuthenticationParameters": own,
        }

    def ready(self) -> bool:
        """Whether the broker serves: its own health check sends and reads a message."""
        try:
            return (
                requests.get(
                    f"{self.admin_url}/admin/v2/brokers/health",
                    timeout=10,
                    verify=str(self.authority),
                    headers={"Authorization": f"Bearer {token_of(self.key, ADMIN)}"},
                ).status_code
                == 200
            )
        except requests.RequestException:
            return False


@dataclass(frozen=True)
class SecureDatabase(Database):
    """Takes TLS connections with a password (SCRAM) and no others."""

    password: str = ""
    authority: Path = Path()
    certificate: tuple[Path, Path] = (Path(), Path())

    def url(self, database: str = "postgres", **more: object) -> str:
        """Address as superuser, everything verified; `more` replaces parts: user, password, host, authority."""
        given = {"user": "postgres", "password": self.password, "host": "127.0.0.1", "authority": self.authority} | more
        return (
            f"postgresql://{given['user']}:{given['password']}@{given['host']}:{self.port}/{database}"
            f"?sslmode=verify-full&sslrootcert={given['authority']}"
        )

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}

    def _hba(self) -> str:
        return "hostssl all all 127.0.0.1/32 scram-sha-256\n"

    def _initialise(self) -> None:
        super()._initialise()
        self._single(self.data, f"ALTER ROLE postgres PASSWORD '{self.password}'\n")
        for source, name in zip(self.certificate, ("server.crt", "server.key"), strict=True):
            target = self.data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            if (account := stand_in()) is not None:
                os.chown(target, account.pw_uid, account.pw_gid)


@dataclass
class Secure:
    """Both, running. `close` ends them."""

    folder: Path
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    password: str = field(default_factory=lambda: f"pw-{secrets.token_hex(12)}")

    def __post_init__(self) -> None:
        self.authority, self.stranger = Authority(self.folder, "ours"), Authority(self.folder, "strangers")
        here = self.authority.issue("127.0.0.1")
        port, admin_port, database_port = free_ports(3)
        self.what = SecureBroker(
            self.folder / "broker", port, admin_port, "384m", False, self.key, self.authority.file, here
        )
        self.store = SecureDatabase(
            self.folder / "database", database_port, "384m", False, self.password, self.authority.file, here
        )
        self.broker, self.database = Service(self.what, True), Service(self.store, True)

    def start(self) -> None:
        for service in (self.broker, self.database):
            service.what.folder.mkdir()
            service.start(wait=False)
        self.database.wait_ready()
        self.broker.wait_ready()

    def token(self, role: str) -> str:
        return token_of(self.key, role)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.store.url(database), autocommit=True)

    def close(self) -> None:
        self.broker.kill()
        self.database.stop()


TENANT, DATABASE, WRITER = "theirs", "theirs", "writer"


def secrets_of(secure: Secure) -> list[str]:
    """What nobody may see: also the signatures alone, and the key."""
    tokens = [secure.token(role).split(".")[2] for role in (ADMIN, PIPELINE, WRITER)]
    return [*tokens, secure.password, base64.b64encode(secure.key).decode()]


def nothing_shown(secure: Secure, *texts: str) -> None:
    lists = _command_lines()
    for secret in secrets_of(secure):
        assert not [text[:300] for text in (*texts, *lists) if secret in text]


def _command_lines() -> list[str]:
    """Of all processes that there are; some end while we look."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_bytes().decode(errors="replace"))
    assert any("python" in line for line in found)
    return found


def grant(secure: Secure, role: str) -> None:
    """The least that a writer needs: to produce and consume in the namespaces."""
    for space in NAMESPACES:
        address = f"{secure.what.admin_url}/admin/v2/namespaces/{TENANT}/{space.name}/permissions/{role}"
        answer = requests.post(
            address,
            json=["produce", "consume"],
            verify=str(secure.authority.file),
            timeout=30,
            headers={"Authorization": f"Bearer {secure.token(PIPELINE)}"},
        )
        assert answer.status_code == 204, answer.text

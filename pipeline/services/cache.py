"""The download cache shared by several checkouts: locked, and written atomically."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.services.folders import made

ALTERNATIVE = "or set {setting} to a service that you already have"


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Context manager: lock `name` of a shared folder; a second setup waits for the first and finds its work done."""
    # Not "w", which empties what a link of somebody else's leads to.
    with (made(folder) / f".{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def verified(file: Path, wanted: str, into: Path) -> Path | None:
    """Return a copy of `file` in our own folder `into`; None if there is none with this hash. It is the copy that was
    checked: whoever can write to the cache could change the file after the check."""
    copy = into / file.name
    try:
        shutil.copyfile(file, copy)
    except (FileNotFoundError, shutil.SpecialFileError):
        return None
    return copy if sha256(copy) == wanted else None


@contextmanager
def fresh_folder(beside: Path) -> Iterator[Path]:
    """Context manager: a new folder next to `beside`, removed afterwards unless renamed.

    Use it while `beside` is locked: what a killed set-up left there is removed first.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{beside.name}."
    for left in beside.parent.iterdir():
        if left.name.startswith(prefix) and left.is_dir():  # not a lock
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=beside.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def need_space(folder: Path, megabytes: int, setting: str) -> None:
    """Raise `WrongUse` if the disk of `folder` has less free space."""
    free = shutil.disk_usage(made(folder)).free // 2**20
    if free < megabytes:
        raise WrongUse(
            f"{folder} has {free} MB left and {megabytes} MB are needed: make room, "
            f"{ALTERNATIVE.format(setting=setting)}."
        )


def run(command: Sequence[str], failure: str, setting: str) -> str:
    """Run a tool and return its output. Raises `WrongUse` with `failure` and the tool's error message."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise WrongUse(
            f"{command[0]} is missing: install it with apt, {ALTERNATIVE.format(setting=setting)}."
        ) from None
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if any("No space left" in line for line in said):
            raise OSError(errno.ENOSPC, "No space left on device")
        wrong = [line for line in said if line.startswith(("E:", "[ERROR]", "Err:"))] or said[-1:]
        raise WrongUse(
            f"{failure} ({wrong[0][:300] if wrong else f'exit code {done.returncode}'}); "
            f"check the network and run it again, {ALTERNATIVE.format(setting=setting)}."
        )
    return done.stdout

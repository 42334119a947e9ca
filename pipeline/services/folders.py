"""Folders that the services write to: only ours are closed to others or deleted, never somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.services import layout
from pipeline.services.accounts import stand_in

MARK = ".market-data"  # an empty file in each folder that is ours
# By what the folders of earlier versions are recognised: data, broker and database.
_EARLIER = ("run/.gate.lock", "token.key", "conf/standalone.conf", "postgresql/pipeline.conf")


def made(folder: Path, mode: int = 0o777) -> Path:
    """Create `folder` if missing. Raises `WrongUse` if it cannot be created or written to."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUse(f"{folder} cannot be created ({error.strerror}): name another folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WrongUse(f"{folder} cannot be written to: name another folder, or correct its permissions.")
    return folder


def ours(folder: Path) -> bool:
    """Whether we made this existing folder, or may take it because it is empty and belongs to our account."""
    if folder.resolve().is_relative_to(layout.INSTALLED.resolve()):
        return True
    if folder.stat().st_uid != os.geteuid():
        return False
    names = {file.name for file in folder.iterdir()} - {"lost+found"}  # which every new disk has
    return not names or any((folder / mark).exists() for mark in (MARK, *_EARLIER))


def closed(folder: Path) -> Path:
    """Create `folder` if missing, accessible to us only; the stand-in account may traverse it, but not list it.

    Raises `WrongUse` if it is somebody else's and open to others: they may need it to be.
    """
    made(folder, 0o700)
    mode = folder.stat().st_mode & 0o7777
    wanted = 0o700 if stand_in() is None else 0o711
    if ours(folder):
        (folder / MARK).touch()
    elif mode & 0o077 & ~wanted:
        raise WrongUse(
            f"{folder} holds files that are not this pipeline's and is open to others (mode {mode:o}): name a new "
            f"folder, or close it with chmod 700."
        )
    if mode & 0o777 != wanted:
        folder.chmod(wanted)
    return folder


def own(folder: Path) -> Path:
    """Like `closed`, for a folder that a reset deletes. Raises `WrongUse` if it is somebody else's, closed or not."""
    if folder.is_dir() and not ours(folder):
        raise WrongUse(f"{folder} holds files that are not this pipeline's: move them elsewhere, or name a new folder.")
    return closed(folder)

"""The account that PostgreSQL runs as: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from functools import cache
from pathlib import Path

from pipeline.services import layout

# Unused accounts of every Debian. Not `nobody`, which many programs share: each of them could read the tables' files.
SPARE = ("games", "uucp", "news", "irc", "list", "sys", "bin")


@cache
def unprivileged() -> tuple[str, ...]:
    """Return the prefix for a PostgreSQL command if we are root, otherwise nothing.

    In a user namespace root's files look like an ordinary user's, so neither account nor permissions are needed;
    outside it is still root's process, so the account with the mapped uid has no access. That uid needs a name: 1000
    has one on most machines, `nobody` on all. Where namespaces are forbidden, an otherwise unused account is used,
    which must be able to reach the folder.
    """
    if os.geteuid() != 0:
        return ()
    seen = next(uid for uid in (1000, 65534) if uid == 65534 or _has_name(uid))
    namespace = ("unshare", "--user", f"--map-user={seen}", f"--map-group={seen}")
    if subprocess.run([*namespace, "true"], capture_output=True).returncode == 0:
        return namespace
    account = spare()
    return ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")


def stand_in() -> pwd.struct_passwd | None:
    """Return the account that must own the database's files; None if it is the caller."""
    return spare() if unprivileged()[:1] == ("setpriv",) else None


@cache
def spare() -> pwd.struct_passwd:
    """Return the first account of `SPARE` that runs nothing but our own PostgreSQL."""
    ours = layout.postgres_program("postgres").resolve()
    strangers = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            uid = process.stat().st_uid
            if uid and (process / "exe").readlink() != ours:
                strangers.add(uid)
        except OSError:
            continue  # it has ended, or is the kernel's
    for name in SPARE:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid not in strangers:
            return account
    return pwd.getpwnam("nobody")


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False

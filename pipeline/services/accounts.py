"""As whom PostgreSQL runs: it refuses to be root."""

from __future__ import annotations

import os
import pwd
import subprocess
from functools import cache
from pathlib import Path

from pipeline.services import layout

# Accounts of every Debian that nothing runs as. Not `nobody`, which many programs share: each of them could read the
# tables' files.
SPARE = ("games", "uucp", "news", "irc", "list", "sys", "bin")


@cache
def unprivileged() -> tuple[str, ...]:
    """What to put before a PostgreSQL command when we are root; nothing otherwise.

    In a user namespace root's own files look like an ordinary user's, so no account and no permissions are needed; for
    the rest of the machine it is still root's process, so the account of the number that it sees itself as has no part
    in it. That number needs a name, which 1000 has on most machines and `nobody` on all.
    Where namespaces are forbidden an account that nothing else runs as must do; it has to be able to reach the folder.
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
    """The account that has to own the database's files; None where these are the caller's own."""
    return spare() if unprivileged()[:1] == ("setpriv",) else None


def closed(folder: Path) -> Path:
    """`folder`, made where it is missing, for us alone; the stand-in may pass through, without looking round."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = 0o700 if stand_in() is None else 0o711
    if folder.stat().st_mode & 0o777 != mode:
        folder.chmod(mode)
    return folder


@cache
def spare() -> pwd.struct_passwd:
    """The first of `SPARE` that nothing runs as but our own PostgreSQL, which may run already."""
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

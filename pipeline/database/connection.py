"""Connections to TimescaleDB, and which of its errors are transient."""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import Any, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline.core import events
from pipeline.core.admission import let_in, shut_out, taken
from pipeline.core.errors import Unavailable
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PROGRAM_ROLE, DatabaseSettings

Connection = psycopg.Connection[Any]

STATEMENT_TIMEOUT_S = 120
# Our guarantees depend on these, so they override what an administrator has set for role, database or server.
_SESSION = " ".join(
    f"-c {name}={value}"
    for name, value in {
        # The connection of a frozen or vanished client must not hold locks: the server ends it after these timeouts.
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "30s",
        "idle_session_timeout": "0",  # session locks are held while something is fetched
        "default_transaction_isolation": r"read\ committed",  # under a lock, read what its previous holder committed
        "synchronous_commit": "on",  # committed rows are acknowledged to the broker, which then drops them
        "timezone": "UTC",
        "jit": "off",
    }.items()
)
_AS_WE_READ = {"TimeZone": "UTC", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres"}
# Our side learns of a dead server by TCP: unacknowledged data for 20 s, or 25 s of silence.
_TCP = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# SQLSTATE classes of errors that the data may have caused: feature not supported, cardinality, data, integrity, check
# option, limits of a row or an index entry, raised by a trigger, internal errors.
_OF_THE_DATA = ("0A", "21", "22", "23", "44", "54", "P0", "XX")
# Errors that only another DATABASE_URL can fix. Others are retried: a certificate may be renewed, a missing database
# created. libpq has no codes for them; its messages are not translated.
_WRONG = re.compile(
    r"authentication failed for user|no password supplied|does not match host name|root certificate file|no pg_hba.conf"
)
_TRIED = re.compile(r"connection to server (?:at|on socket)")  # one per host


def connect(settings: DatabaseSettings, name: str, *, read_only: bool = False, role: str = PROGRAM_ROLE) -> Connection:
    """Open an autocommit connection; use `with conn.transaction()`.

    `role`: the role for the private database; `DATABASE_URL` names its role itself. Raises `Unavailable`, or `WrongUse`
    for `_WRONG` unless the database has accepted this process before.
    """
    conninfo = settings.conninfo_as(role)
    address = with_options(conninfo, _SESSION + (" -c default_transaction_read_only=on" if read_only else ""))
    if not read_only and conninfo_to_dict(address).get("target_session_attrs", "any") == "any":
        # Choose the writable one of several hosts; a single host that is not writable is reported at once.
        address = make_conninfo(address, target_session_attrs="read-write")
    try:
        made = psycopg.connect(address, autocommit=True, application_name=name, **cast(Any, _TCP))
        let_in(conninfo)
        restoring = _settle(made)
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        tries = len(_TRIED.findall(text))
        if 0 < tries <= len(_WRONG.findall(text)):
            if settings.private:
                check = "check DATABASE_PORT: another database may listen there"
                raise taken(f"the database refuses the connection; {check}: {text}") from None
            raise shut_out(conninfo, f"the database refuses the connection; check DATABASE_URL: {text}") from None
        hint = "is the pipeline running (scripts/start)?" if settings.private else "check DATABASE_URL:"
        if settings.private and "authentication method requirement" in text:
            hint = "what listens on DATABASE_PORT is not ours:"
        raise Unavailable(f"the database does not answer; {hint} {text}") from None
    if restoring:
        made.close()
        raise Unavailable("the database is being restored, which SELECT timescaledb_post_restore() ends")
    return made


def with_options(conninfo: str, options: str) -> str:
    """Return a connection string with these options after its own, which they override."""
    own = conninfo_to_dict(conninfo).get("options") or ""
    return make_conninfo(conninfo, options=f"{own} {options}".strip())


def _settle(made: Connection) -> bool:
    """Set what `options` cannot; returns whether the database is being restored: it then refuses every row, with the
    same kind of error as for a bad one."""
    # libpq's own variables (PGTZ, PGDATESTYLE) override `options`: days would begin at another hour.
    for name, value in _AS_WE_READ.items():
        if made.info.parameter_status(name) != value:
            made.execute(f"SET {name} = '{value}'")
    if made.info.server_version >= 170_000:  # older servers do not know it
        made.execute("SET transaction_timeout = 0")
    found = made.execute("SELECT current_setting('timescaledb.restoring', true)").fetchone()
    return found == ("on",)


def connect_when_ready(
    settings: DatabaseSettings, name: str, stop: threading.Event, *, role: str = PROGRAM_ROLE
) -> Connection:
    """Call `connect`, waiting until the database is ready. Raises `Unavailable` only if stopped meanwhile."""
    made = keep_trying(
        "database",
        partial(connect, settings, name, role=role),
        stop,
        retry_on=(Unavailable,),
        event=events.DATABASE_RETRY,
    )
    if made is None:
        raise Unavailable("stopped while waiting for the database")
    return made


def transient(error: BaseException) -> bool:
    """Return whether this is a database error after which the same may succeed later, or on another connection:
    deadlock, timeout, disk full, lost connection, a database that is read-only or without our tables. False if the
    data, or the way we pass it, is the cause."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # raised by the client: a broken connection, or a value that it cannot encode
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate[:2] not in _OF_THE_DATA

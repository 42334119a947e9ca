"""Connections to TimescaleDB, and which of its errors are transient."""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import Any, cast

import psycopg

from pipeline.core import events
from pipeline.core.admission import let_in, shut_out
from pipeline.core.errors import Unavailable
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PROGRAM_ROLE, DatabaseSettings

Connection = psycopg.Connection[Any]

# A connection whose client has frozen or vanished must not hold locks: the server ends it after these timeouts.
_SESSION = (
    "-c statement_timeout=120s -c lock_timeout=30s -c idle_in_transaction_session_timeout=30s -c timezone=UTC"
    " -c jit=off"
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
# Classes of SQLSTATE that the data may have caused: feature not supported, cardinality, data, integrity, check option,
# limits of a row or an index entry, raised by a trigger, internal errors.
_OF_THE_DATA = ("0A", "21", "22", "23", "44", "54", "P0", "XX")
# Errors that only another DATABASE_URL can fix. Other certificate errors may be an expired one, and a missing database
# may be created: these are retried. libpq has no codes for them; its messages are not translated.
_WRONG = re.compile(
    r"password authentication failed|no password supplied|does not match host name|root certificate file|no pg_hba.conf"
)


def connect(settings: DatabaseSettings, name: str, *, read_only: bool = False, role: str = PROGRAM_ROLE) -> Connection:
    """Open an autocommit connection; use `with conn.transaction()`.

    `role`: the role for the private database; `DATABASE_URL` names its role itself. Raises `Unavailable`, or `WrongUse`
    for `_WRONG` unless the database has accepted this process before.
    """
    conninfo = settings.conninfo_as(role)
    options = _SESSION + (" -c default_transaction_read_only=on" if read_only else "")
    try:
        made = psycopg.connect(conninfo, autocommit=True, application_name=name, options=options, **cast(Any, _TCP))
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        tries = text.count("connection to server at")  # one per host
        if 0 < tries <= len(_WRONG.findall(text)):
            check = "DATABASE_PORT: another database may listen there" if settings.private else "DATABASE_URL"
            raise shut_out(conninfo, f"the database refuses the connection; check {check}: {text}") from None
        hint = "is the pipeline running (scripts/start)?" if settings.private else "check DATABASE_URL:"
        if settings.private and "authentication method requirement" in text:
            hint = "what listens on DATABASE_PORT is not ours:"
        raise Unavailable(f"the database does not answer; {hint} {text}") from None
    let_in(conninfo)
    # libpq's own variables (PGTZ, PGDATESTYLE) win over `options`: days would begin at another hour.
    for name_, value in _AS_WE_READ.items():
        if made.info.parameter_status(name_) != value:
            made.execute(f"SET {name_} = '{value}'")
    return made


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


def transient(error: psycopg.Error) -> bool:
    """Whether storing the same rows may succeed later or elsewhere: deadlock, timeout, disk full, lost connection, a
    database without our tables. False if the data, or the way we pass it, is the cause."""
    if error.sqlstate is None:  # raised by the client: a broken connection, or a value that it cannot encode
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate[:2] not in _OF_THE_DATA

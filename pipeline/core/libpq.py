"""libpq's environment variables must not affect the private database."""

from __future__ import annotations

import os

# How values are shown, not where a connection goes: psql's users want it, our sessions set their own.
_KEPT = ("PGTZ", "PGDATESTYLE")


def forget_environment() -> None:
    """Remove the variables from which libpq takes whatever an address leaves out: a service (PGSERVICE) may name
    another server or not exist, and more than twenty others can each refuse a connection (PGREQUIREAUTH, PGSSLMODE,
    PGSSLNEGOTIATION ...), also ones that a later libpq brings."""
    for name in [name for name in os.environ if name.startswith("PG") and name not in _KEPT]:
        del os.environ[name]

"""Decide whether refused credentials are a wrong setting or a temporary condition.

Before a service has accepted this process, "wrong password" most likely is a wrong setting: one sentence and exit code
2. Afterwards the same setting has worked, so a password is being changed, a token file replaced, or a new primary does
not know us yet: a running program waits as for any unavailable service, and reports it.
"""

from __future__ import annotations

import os
from collections.abc import Hashable

from pipeline.core.errors import PipelineError, Unavailable, WrongUse

_let_in: set[Hashable] = set()


def let_in(setting: Hashable) -> None:
    """Record that a service has accepted this setting (an address with its credentials, or where they are stored)."""
    _let_in.add(setting)


def shut_out(setting: Hashable, text: str) -> PipelineError:
    """Return the error to raise when a service refuses us."""
    return Unavailable(text) if setting in _let_in else WrongUse(text)


def taken(text: str) -> PipelineError:
    """Return the error to raise when somebody else holds a port of ours.

    Under supervisord all of them were free at the start, and whoever came since may go: a program that ended with exit
    code 2 would stay down nevertheless.
    """
    return Unavailable(text) if "SUPERVISOR_ENABLED" in os.environ else WrongUse(text)

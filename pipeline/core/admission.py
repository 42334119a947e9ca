"""Whether a refusal is a wrong setting or a bad moment.

Before a service has let this process in, "wrong password" is most likely what a person typed: a sentence and exit code
2. Afterwards the same setting has worked: a password is being changed, a token file replaced, a new primary has no
entry for us yet. A program that runs waits for that like for any service that is away, and says so.
"""

from __future__ import annotations

from collections.abc import Hashable

from pipeline.core.errors import PipelineError, Unavailable, WrongUse

_let_in: set[Hashable] = set()


def let_in(setting: Hashable) -> None:
    """A service has accepted what we show by this setting (an address with its credentials, or where they are kept)."""
    _let_in.add(setting)


def shut_out(setting: Hashable, text: str) -> PipelineError:
    """The error to raise when the service does not accept us."""
    return Unavailable(text) if setting in _let_in else WrongUse(text)

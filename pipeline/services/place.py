"""Check whether a checkout can run in its folder: spaces, quotes, % and letters of any language are supported.

Not supported are paths that supervisord's configuration, a shebang line or a PATH-like list cannot contain and, with a
private broker, paths that Pulsar's start script, which does not quote, splits.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.core.settings import PulsarSettings, ServicesSettings, load
from pipeline.services import layout

# A socket's path has at most 107 bytes, minus what is appended for the demonstration, minus a pid during creation.
LONGEST = 107 - len("/.services/demo/sock.1234567")
_NEVER = re.compile(r"[\x00-\x1f\x7f:\"\\$`]| [;#]")
_PULSAR_TAKES = re.compile(r"[A-Za-z0-9_./+,=@%-]*", re.ASCII)


def check_place() -> None:
    """Raise `WrongUse` with one sentence if this checkout cannot run in its folder."""
    place = layout.PROJECT
    if found := _NEVER.search(str(place)):
        raise WrongUse(
            f"The project lies in {str(place)!r}, and with {found[0]!r} in its path it cannot run: move it to another"
            " folder (spaces, quotes and % are allowed)."
        )
    if len(os.fsencode(place)) > LONGEST:
        raise WrongUse(
            f"The path of the project, {place}, has {len(os.fsencode(place))} bytes, and a socket in it leaves room for"
            f" {LONGEST}: move it to a folder with a shorter path."
        )
    if load(PulsarSettings).private:
        _check_for_broker(place, "The project lies in", "move it to a folder without")
        data = load(ServicesSettings).data.resolve()
        _check_for_broker(data, "SERVICES_DATA is", "name a folder without")


def _check_for_broker(folder: Path, what: str, do: str) -> None:
    if not _PULSAR_TAKES.fullmatch(str(folder)):
        odd = sorted(set(_PULSAR_TAKES.sub("", str(folder))))
        raise WrongUse(
            f"{what} {str(folder)!r}, where Pulsar's own scripts cannot start a broker: {do} {odd[0]!r} in its path, or"
            " set PULSAR_URL to a broker that you have."
        )

"""The supervisord.conf of a stage."""

from __future__ import annotations

import configparser
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from judge.old_days import LOAD
from judge.schedule import LOADS
from pipeline.services import conf

OWN_WAY = ("broker", "database", "watchdog")  # these do not use the proxies


def write(
    folder: Path,
    without: Sequence[str],
    through: Mapping[str, str],
    clocks: Mapping[str, str],
    load: Sequence[str],
) -> Path:
    """Write the demonstration's programs with other addresses (`through`) and clocks that can be set wrong (files, by
    program), and one more that runs `load`, a module and its arguments."""
    file = conf.write(folder, without=without, extra=LOADS)
    parser = configparser.RawConfigParser()
    parser.read(file)
    command = shlex.join((sys.executable, "-m", *load))
    parser[f"program:{LOAD}"] = dict(parser[f"program:{LOADS[0]}"]) | {"command": command}
    parser["group:programs"]["programs"] += f",{LOAD}"
    for section in parser.sections():
        name = section.partition("program:")[2]
        if name and name not in OWN_WAY:
            own = {"PIPELINE_CLOCK_FILE": clocks[name]} if name in clocks else {}
            both = (dict(through) | own).items()
            parser[section]["environment"] = ",".join(f'{key}="{value}"' for key, value in both)
    with file.open("w") as stream:
        parser.write(stream)
    return file

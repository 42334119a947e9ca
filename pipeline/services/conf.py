"""Write a supervisord.conf for another folder: demonstration and tests run beside the live pipeline."""

from __future__ import annotations

import configparser
import sys
from collections.abc import Collection
from pathlib import Path

from pipeline.core.settings import PROJECT
from pipeline.services.folders import closed


def write(folder: Path, *, without: Collection[str] = (), extra: Collection[str] = ()) -> Path:
    """Write the project's supervisord.conf to `folder`, with socket and pid file there, and modified programs."""
    conf = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    conf.read_string((PROJECT / "supervisord.conf").read_text().replace("%(here)s", _literal(PROJECT)))
    conf["unix_http_server"]["file"] = _literal(folder / "sock")
    conf["supervisorctl"]["serverurl"] = f"unix://{_literal(folder / 'sock')}"
    conf["supervisord"]["pidfile"] = _literal(folder / "supervisord.pid")
    group = conf["group:programs"]
    names = [name for name in group["programs"].split(",") if name not in without]
    for name in without:
        conf.remove_section(f"program:{name}")
    for name in extra:
        like = dict(conf["program:watchdog"])
        like["command"] = like["command"].removesuffix("watchdog") + name
        conf[f"program:{name}"] = like
        names.append(name)
    group["programs"] = ",".join(names)
    file = closed(folder) / "supervisord.conf"
    with file.open("w") as stream:
        conf.write(stream)
    return file


def _literal(path: Path) -> str:
    return str(path).replace("%", "%%")


def supervisord(conf: Path) -> list[str]:
    """Return the command that runs everything in `conf` in the foreground."""
    return [str(Path(sys.executable).with_name("supervisord")), "-c", str(conf)]

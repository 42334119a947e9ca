"""Download, unpack and patch the Pulsar distribution: Maven downloads it, its hash is pinned.

The patch: the class by which a bookie registers has no `equals` in BookKeeper 4.17.2. A registration left behind by a
killed broker then looks foreign to its successor, which may delete and rewrite its own forever, a thousand times a
second, so that its bookie appears and disappears (about one start in ten after `kill -9`:
https://github.com/apache/pulsar/issues/17759). BookKeeper 4.17.3 has it
(https://github.com/apache/bookkeeper/pull/4686), but no Pulsar release in Maven contains it yet, so these classes are
taken from there.
"""

from __future__ import annotations

import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.services import layout
from pipeline.services.cache import ALTERNATIVE, fresh_folder, locked, need_space, run, verified
from pipeline.services.progress import size_of, step

SETTING = "PULSAR_URL"
JAR = f"org.apache.bookkeeper-bookkeeper-server-{layout.BOOKKEEPER_VERSION}.jar"
MENDED_CLASSES = "org/apache/bookkeeper/discover/BookieServiceInfo"  # with its nested classes


@dataclass(frozen=True)
class Download:
    """A file in Maven, and its name in our cache."""

    what: str
    artifact: str  # group:name:version[:type:classifier]
    file: str
    sha256: str
    megabytes: int


def distribution() -> Download:
    version = layout.PULSAR_VERSION
    artifact = f"org.apache.pulsar:pulsar-server-distribution:{version}:tar.gz:bin"
    return Download(f"Pulsar {version}", artifact, f"apache-pulsar-{version}-bin.tar.gz", layout.PULSAR_SHA256, 246)


def mended() -> Download:
    version = layout.BOOKKEEPER_MENDED_VERSION
    artifact, file = f"org.apache.bookkeeper:bookkeeper-server:{version}", f"bookkeeper-server-{version}.jar"
    return Download(f"BookKeeper {version}", artifact, file, layout.BOOKKEEPER_MENDED_SHA256, 3)


def installed() -> bool:
    return (layout.PULSAR_HOME / "bin" / "pulsar").exists()


def install(cache: Path) -> None:
    """Install the broker in `.services/`, if it is not there."""
    if installed():
        return
    if " " in str(layout.PROJECT):
        raise WrongUse(
            f"Pulsar's scripts cannot run from a folder with a space in its name ({layout.PROJECT}): "
            f"move the checkout, {ALTERNATIVE.format(setting=SETTING)}."
        )
    with locked(layout.INSTALLED, "broker"), fresh_folder(layout.INSTALLED / "downloads") as own:
        if installed():
            return
        with locked(cache, "broker"), ThreadPoolExecutor(2) as pool:  # at once: 12 s less
            archive, jar = pool.map(partial(_fetched, cache, own), (distribution(), mended()))
        need_space(layout.INSTALLED, 400, SETTING)
        with step(f"Unpacking Pulsar {layout.PULSAR_VERSION}"):
            _unpack(archive, jar)


def _unpack(archive: Path, jar: Path) -> None:
    with fresh_folder(layout.PULSAR_HOME) as fresh:
        with tarfile.open(archive) as packed:
            # Python has it from 3.11.4 on, Debian 12 has 3.11.2; the hash says that the archive is a good one.
            packed.extraction_filter = getattr(tarfile, "data_filter", None)
            packed.extractall(fresh)
        (top,) = fresh.iterdir()
        mend(top / "lib" / JAR, jar)
        top.rename(layout.PULSAR_HOME)


def mend(jar: Path, newer: Path) -> None:
    """Replace the classes in `jar` by the fixed ones of `newer`."""
    fresh = jar.with_suffix(".mended")
    with zipfile.ZipFile(jar) as old, zipfile.ZipFile(newer) as new, zipfile.ZipFile(fresh, "w") as made:
        for source, mended_ones in ((old, False), (new, True)):
            for member in source.infolist():
                stem = member.filename.removesuffix(".class").partition("$")[0]
                if (stem == MENDED_CLASSES) is mended_ones:
                    made.writestr(member, source.read(member))
    fresh.replace(jar)


def _fetched(cache: Path, own: Path, download: Download) -> Path:
    """Return a copy in our folder `own` of the file in the cache, into which it is downloaded if it is missing or
    incomplete. The cache must be locked."""
    file = cache / download.file
    if (copy := verified(file, download.sha256, own)) is not None:
        return copy
    need_space(cache, 3 * download.megabytes, SETTING)
    file.unlink(missing_ok=True)
    # A temporary Maven repository: a broken file in the user's is neither used nor kept.
    with fresh_folder(file) as fresh:
        repository = fresh / "repository"
        total = download.megabytes * 1_000_000
        with step(f"Downloading {download.what} through Maven", lambda: size_of(fresh), total):
            plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
            # The plugin, which is executed, has a fixed version, and its parts must match their checksums (-C); what it
            # downloads must match our hash.
            run(
                [
                    "mvn",
                    "-B",
                    "-q",
                    "-C",
                    f"-Dmaven.repo.local={repository}",
                    f"{plugin}:get",
                    f"-Dartifact={download.artifact}",
                    "-Dtransitive=false",
                ],
                f"Maven could not download {download.what}",
                SETTING,
            )
        group, name, version = download.artifact.split(":")[:3]
        kind = "".join(file.suffixes[-2:]) if file.name.endswith(".tar.gz") else file.suffix
        (got,) = repository.glob(f"{group.replace('.', '/')}/{name}/{version}/*{kind}")
        got = got.rename(fresh / download.file)
        if (copy := verified(got, download.sha256, own)) is None:
            raise WrongUse(
                f"What Maven downloaded as {download.what} has an unexpected hash: run it "
                f"again, {ALTERNATIVE.format(setting=SETTING)}."
            )
        got.rename(file)
    return copy

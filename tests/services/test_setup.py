"""The set-up: broken downloads are done again, and what goes wrong is one sentence that says what to do."""

from __future__ import annotations

import io
import os
import platform
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.core.errors import WrongUse
from pipeline.services import cache, install_broker, install_database, layout

VERSION = layout.PULSAR_VERSION
NAME = f"pulsar-server-distribution-{VERSION}-bin.tar.gz"
MENDED = layout.BOOKKEEPER_MENDED_VERSION
FAKE_MAVEN = f"""#!/bin/sh
for argument; do case $argument in
    -Dmaven.repo.local=*) repository=${{argument#*=}} ;;
    -Dartifact=*) artifact=${{argument#*=}} ;;
esac; done
echo "$artifact" >> "$CALLS"
case $artifact in
    *bookkeeper*) from=$JAR folder=bookkeeper/bookkeeper-server/{MENDED} name=bookkeeper-server-{MENDED}.jar ;;
    *) from=$ARCHIVE folder=pulsar/pulsar-server-distribution/{VERSION} name={NAME} ;;
esac
mkdir -p "$repository/org/apache/$folder" && cp "$from" "$repository/org/apache/$folder/$name"
"""
BOTH = 2  # the distribution and what it is mended with


def _jar(**members: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for name, text in members.items():
            packed.writestr(f"org/apache/bookkeeper/discover/{name}.class", text)
    return data.getvalue()


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for mvn that "downloads" a tiny distribution; returns the file that counts its runs."""
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz") as packed:
        old = _jar(BookieServiceInfo="old", BookieServiceInfoUtils="old", Other="old")
        for name, data in (("bin/pulsar", b"true"), (f"lib/{install_broker.JAR}", old)):
            member = tarfile.TarInfo(f"apache-pulsar-{VERSION}/{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    jar = tmp_path / "jar"
    jar.write_bytes(_jar(**{"BookieServiceInfo": "new", "BookieServiceInfo$Endpoint": "new", "Other": "new"}))
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(FAKE_MAVEN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("ARCHIVE", str(archive))
    monkeypatch.setenv("JAR", str(jar))
    monkeypatch.setattr(layout, "PULSAR_SHA256", cache.sha256(archive))
    monkeypatch.setattr(layout, "BOOKKEEPER_MENDED_SHA256", cache.sha256(jar))
    _elsewhere(tmp_path / "checkout", monkeypatch)
    return tmp_path / "calls"


def _elsewhere(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "INSTALLED", checkout / ".services")
    monkeypatch.setattr(layout, "PULSAR_HOME", checkout / ".services" / f"pulsar-{VERSION}")


def _runs(calls: Path) -> int:
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def test_a_second_checkout_takes_the_download_of_the_first(
    maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a download of 250 MB for every checkout and every run."""
    install_broker.install(tmp_path / "cache")
    assert install_broker.installed()
    install_broker.install(tmp_path / "cache")
    _elsewhere(tmp_path / "second", monkeypatch)
    assert not install_broker.installed()
    install_broker.install(tmp_path / "cache")
    assert install_broker.installed()
    assert _runs(maven) == BOTH


def test_the_broker_gets_the_mended_classes_and_no_others(maven: Path, tmp_path: Path) -> None:
    """Prevents the endless registration of the bookie after a kill, and a mixture of two releases beyond it."""
    install_broker.install(tmp_path / "cache")
    with zipfile.ZipFile(layout.PULSAR_HOME / "lib" / install_broker.JAR) as jar:
        found = {Path(name).stem: jar.read(name) for name in jar.namelist()}
    assert found == {
        "BookieServiceInfo": b"new",
        "BookieServiceInfo$Endpoint": b"new",
        "BookieServiceInfoUtils": b"old",
        "Other": b"old",
    }


def test_a_broken_download_is_done_again(maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a cut-off file in the shared folder from breaking every checkout for good."""
    install_broker.install(tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("apache-pulsar-*.tar.gz")
    kept.write_bytes(kept.read_bytes()[:-10])
    _elsewhere(tmp_path / "second", monkeypatch)
    install_broker.install(tmp_path / "cache")
    assert install_broker.installed()
    assert _runs(maven) == BOTH + 1


def test_a_wrong_file_is_refused_and_not_kept(maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the start of a program that is not the one that was asked for."""
    monkeypatch.setattr(layout, "PULSAR_SHA256", "0" * 64)
    with pytest.raises(WrongUse, match=r"unexpected hash.*PULSAR_URL"):
        install_broker.install(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.tar.gz"))
    assert not install_broker.installed()


def test_a_file_that_is_changed_after_its_check_is_not_unpacked(
    maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: a program of somebody else's, who can write to the cache as well and waits for the check."""
    install_broker.install(tmp_path / "cache")
    _elsewhere(tmp_path / "second", monkeypatch)
    real = cache.sha256

    def then_changed(file: Path) -> str:
        found = real(file)
        for kept in (tmp_path / "cache").glob("apache-pulsar-*.tar.gz"):
            kept.write_bytes(b"another program")
        return found

    for module in (cache, install_broker):
        monkeypatch.setattr(module, "sha256", then_changed, raising=False)
    install_broker.install(tmp_path / "cache")
    assert (layout.PULSAR_HOME / "bin" / "pulsar").read_bytes() == b"true"


def test_two_set_ups_at_once_download_once(maven: Path, tmp_path: Path) -> None:
    """Prevents two set-ups from writing over each other."""
    failed: list[BaseException] = []

    def one() -> None:
        try:
            install_broker.install(tmp_path / "cache")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert install_broker.installed()
    assert _runs(maven) == BOTH


def test_missing_maven_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a traceback on a machine without Maven."""
    _elsewhere(tmp_path / "checkout", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WrongUse, match=r"^mvn is missing: install it with apt, or set PULSAR_URL to a service"):
        install_broker.install(tmp_path / "cache")


def test_no_network_is_one_sentence_with_the_tools_own_words(tmp_path: Path) -> None:
    """Prevents a page of Maven's output, and an error without a way out."""
    tool = ["sh", "-c", "echo '[INFO] x'; echo '[ERROR] Unknown host' >&2; exit 1"]
    with pytest.raises(WrongUse) as caught:
        cache.run(tool, "Maven could not download it", "PULSAR_URL")
    text = str(caught.value)
    assert "Unknown host" in text
    assert "check the network" in text
    assert "or set PULSAR_URL to a service that you already have" in text
    assert "\n" not in text


def test_no_space_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a disk that is filled to the last byte before anybody says so."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5, 5))
    _elsewhere(tmp_path / "checkout", monkeypatch)
    with pytest.raises(WrongUse, match=r"MB left.*make room, or set PULSAR_URL"):
        install_broker.install(tmp_path / "cache")


def test_a_wrong_architecture_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a database of another machine from being unpacked and failing later."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(install_database, "STAMP", tmp_path / "none")
    with pytest.raises(WrongUse, match=r"this machine is riscv64.*or set DATABASE_URL"):
        install_database.install(tmp_path / "cache")


def test_what_a_killed_set_up_left_is_removed_by_the_next(maven: Path, tmp_path: Path) -> None:
    """Prevents 250 MB of a half download, and 400 of what it was unpacked to, for every set-up that was killed."""
    left = [
        tmp_path / "cache" / f".{install_broker.distribution().file}.abc",
        layout.INSTALLED / f".pulsar-{VERSION}.abc",
    ]
    for folder in left:
        (folder / "repository").mkdir(parents=True)
    install_broker.install(tmp_path / "cache")
    assert install_broker.installed()
    assert not [folder for folder in left if folder.exists()]


CLOUD = """\
Types: deb deb-src
URIs: mirror+file:{0}/mirrors/security.list
Suites: bookworm-security

Types: deb deb-src
URIs: mirror+file:{0}/mirrors/debian.list
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", "deb cdrom:[12]/ bookworm main\ndeb [arch=amd64] https://one.example/debian bookworm main\n"),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: https://one.example/debian/\nSuites: bookworm\n"),
        ("sources.list.d/debian.sources", CLOUD),
    ],
)
def test_the_machine_s_mirror_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str) -> None:
    """Prevents a question for DEBIAN_MIRROR on Debian itself: its images for clouds name their mirrors in a file."""
    monkeypatch.setattr(install_database, "APT", tmp_path)
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)
    for name in ("sources.list.d", "mirrors"):
        (tmp_path / name).mkdir()
    (tmp_path / "mirrors" / "debian.list").write_text("https://one.example/debian\n")
    (tmp_path / "mirrors" / "security.list").write_text("https://one.example/debian-security\n")
    (tmp_path / file).write_text(text.replace("{0}", f"//{tmp_path}"))
    assert install_database._mirror().rstrip("/") == "https://one.example/debian"

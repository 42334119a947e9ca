"""What is unpacked as PostgreSQL is what Debian signed, whatever lies in the shared folder of downloads.

Prevents: a package that somebody put or changed there, which would run with the rights of whoever installs. apt and its
signatures are the real ones, Debian's mirror is a small one of this test's.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import WrongUse
from pipeline.services import install_database
from tests.signed_mirror import SigningKey, mirror, package

ARCHITECTURE = install_database.MACHINES[platform.machine()][0]
Fetch = Callable[[], dict[str, bytes]]


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with the package that is wanted, what it needs, and one that is neither."""
    key, folder = SigningKey(), tmp_path / "upstream"
    made = [
        package(tmp_path, "wanted", "wanted", depends="needed"),
        package(tmp_path, "needed", "needed"),
        package(tmp_path, "other", "other"),
    ]
    mirror(folder, made, key, install_database.SUITE, ARCHITECTURE)
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(key.keyring())
    monkeypatch.setattr(install_database, "PACKAGES", ("wanted",))
    monkeypatch.setattr(install_database, "_keyring", lambda _scratch: keyring)
    monkeypatch.setenv("DEBIAN_MIRROR", f"copy:{folder}")
    return folder


@pytest.fixture
def fetch(upstream: Path, tmp_path: Path) -> Fetch:
    """What an installation would unpack now: content by name."""
    runs = iter(range(100))

    def now() -> dict[str, bytes]:
        scratch = tmp_path / f"scratch-{next(runs)}"
        scratch.mkdir()
        return {file.name: file.read_bytes() for file in install_database.fetched(tmp_path / "cache", scratch)}

    return now


@pytest.fixture
def store(tmp_path: Path, fetch: Fetch) -> Path:
    """The folder of the cache, filled."""
    assert set(fetch()) == {"wanted_1.0_all.deb", "needed_1.0_all.deb"}
    (found,) = [folder for folder in (tmp_path / "cache").iterdir() if folder.is_dir()]
    return found


def test_a_second_set_up_needs_no_network(fetch: Fetch, store: Path, upstream: Path) -> None:
    """Prevents 100 MB for every checkout."""
    shutil.rmtree(upstream)
    assert set(fetch()) == {"wanted_1.0_all.deb", "needed_1.0_all.deb"}


def test_a_package_that_is_not_listed_is_not_unpacked(fetch: Fetch, store: Path, tmp_path: Path) -> None:
    """Seen: an extra .deb in the folder was unpacked, and ran as root."""
    evil = package(tmp_path, "evil", "evil")
    for folder in (store, store / "pool" / "main"):
        shutil.copy(evil, folder)
    assert set(fetch()) == {"wanted_1.0_all.deb", "needed_1.0_all.deb"}


def _change_package(store: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    shutil.copy(package(tmp_path / "evil", "wanted", "evil"), store / "pool" / "main" / "wanted_1.0_all.deb")


def _cut_package(store: Path, tmp_path: Path) -> None:
    file = store / "pool" / "main" / "needed_1.0_all.deb"
    file.write_bytes(file.read_bytes()[:-10])


def _forge_index(store: Path, tmp_path: Path) -> None:
    """A package and an index that names its hash, under the true signature."""
    true = (store / "dists" / install_database.SUITE / "InRelease").read_bytes()
    _forge_all(store, tmp_path)
    (store / "dists" / install_database.SUITE / "InRelease").write_bytes(true)


def _forge_all(store: Path, tmp_path: Path) -> None:
    """The same, signed by a stranger."""
    (tmp_path / "evil").mkdir()
    evil = package(tmp_path / "evil", "wanted", "evil")
    mirror(store, [evil], SigningKey(), install_database.SUITE, ARCHITECTURE)


def _drop_signature(store: Path, tmp_path: Path) -> None:
    (store / "dists" / install_database.SUITE / "InRelease").unlink()


@pytest.mark.parametrize("change", [_change_package, _cut_package, _forge_index, _forge_all, _drop_signature])
def test_what_was_changed_is_fetched_again(
    fetch: Fetch, store: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    good = fetch()
    change(store, tmp_path)
    assert fetch() == good
    assert fetch() == good, "and the cache is whole again"


@pytest.mark.parametrize("change", [_change_package, _forge_index, _forge_all, _drop_signature])
def test_a_mirror_is_believed_no_more_than_the_cache(
    fetch: Fetch, upstream: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    """Prevents a mirror, or who stands between, from giving what Debian did not sign."""
    change(upstream, tmp_path)
    with pytest.raises(WrongUse, match=r"apt could not fetch .*DATABASE_URL"):
        fetch()
    assert not [file for file in (tmp_path / "cache").iterdir() if file.is_dir()], "and nothing is kept"

"""Folders that are not ours keep their files and their permissions, and one that cannot be used is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.core.errors import WrongUse
from pipeline.core.settings import PROJECT, ServicesSettings, load
from pipeline.services import cache, demo, install, layout, local, preflight, reset
from pipeline.services.accounts import stand_in
from pipeline.services.folders import MARK, closed, ours, own

CLOSED = 0o700 if stand_in() is None else 0o711


@pytest.fixture(autouse=True)
def _shell() -> Iterator[None]:
    """Entering a demonstration changes the environment: what was there comes back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`SERVICES_DATA`, not created."""
    folder = tmp_path / "market"
    monkeypatch.setenv("SERVICES_DATA", str(folder))
    return folder


def _filled(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    return folder


def _mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o7777


def _reset(what: str) -> Result:
    return CliRunner().invoke(reset.main, [what, "--yes"])


def _refused(done: Result, said: str) -> None:
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def test_a_reset_of_the_demo_leaves_the_neighbours_of_the_data_alone(data: Path) -> None:
    """Prevents the deletion of somebody's folder that is called demo and lies beside `SERVICES_DATA`."""
    neighbour = _filled(data.parent / "demo", "thesis", "supervisord.conf")
    assert _reset("demo").exit_code == 0
    assert (neighbour / "thesis").exists()


@pytest.mark.parametrize("what", ["broker", "database", "demo"])
def test_a_reset_deletes_no_folder_that_is_not_ours(data: Path, what: str) -> None:
    """Prevents the deletion of what somebody else keeps in a folder with the name of one of ours."""
    folder = _filled(data / what, "thesis")
    _refused(_reset(what), "was not made by this pipeline")
    assert (folder / "thesis").exists()


@pytest.mark.parametrize(
    ("what", "files"),
    [
        ("broker", ["conf/standalone.conf"]),
        ("broker", ["token.key"]),
        ("database", ["postgresql/pipeline.conf"]),
        ("../demo", ["run/.gate.lock", "supervisord.conf"]),
        ("demo", [MARK]),
    ],
)
def test_a_reset_deletes_what_this_and_earlier_versions_made(data: Path, what: str, files: list[str]) -> None:
    """Prevents a folder of ours that no reset deletes any more."""
    folder = _filled(data / what, *files)
    done = _reset(folder.name)
    assert done.exit_code == 0, done.output
    assert not folder.resolve().exists()


def test_a_reset_that_was_interrupted_is_finished_by_the_next(data: Path) -> None:
    """Prevents data that nobody sees and nothing deletes: "Nothing to do", and the disk is as full as before."""
    rest = _filled(data / ".database.deleted", "postgresql/base")
    done = _reset("database")
    assert done.exit_code == 0, done.output
    assert not rest.exists()


def test_the_demo_keeps_its_place_beside_the_data_of_the_checkout() -> None:
    """Prevents a second demonstration where documents and earlier versions have the first."""
    live = load(ServicesSettings).data
    demo.enter_demo()
    assert local.data_folder() == live.parent.resolve() / "demo"


def test_live_data_called_demo_is_not_taken_for_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a demonstration in the live data, and a reset that deletes it."""
    live = _filled(tmp_path / "demo", "run/.gate.lock", "supervisord.conf")
    monkeypatch.setenv("SERVICES_DATA", str(live))
    demo.enter_demo()
    assert local.data_folder() == live / "demo"


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o770])
def test_a_start_does_not_close_somebody_else_s_folder(data: Path, mode: int) -> None:
    """Prevents a shared folder that nobody else can enter once a pipeline was pointed at it."""
    _filled(data, "thesis").chmod(mode)
    with pytest.raises(WrongUse, match=rf"SERVICES_DATA: .* is open to others \(mode {mode:o}\)"):
        preflight.pass_gate(None)
    assert _mode(data) == mode
    assert [file.name for file in data.iterdir()] == ["thesis"]


def test_an_empty_folder_and_one_of_ours_are_closed(data: Path) -> None:
    """Prevents data that others read, because the folder was there before or an earlier version left it open."""
    for folder in (data, _filled(data / "broker", "token.key"), data / "new", data / "disk" / "lost+found" / ".."):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    for folder in (data / "broker", data / "new", data / "disk", data / "missing"):
        closed(folder)
        assert _mode(folder) == CLOSED
        assert ours(folder)


def test_the_demo_takes_no_folder_that_holds_something_else(data: Path) -> None:
    """Prevents a demonstration in somebody's closed folder, which its reset would then delete."""
    _filled(data / "demo", "thesis").chmod(0o700)
    demo.enter_demo()
    with pytest.raises(WrongUse, match="move them elsewhere"):
        preflight.pass_gate(None)
    with pytest.raises(WrongUse, match="move them elsewhere"):
        own(data / "demo")
    assert [file.name for file in (data / "demo").iterdir()] == ["thesis"]


@pytest.mark.parametrize("what", ["broker", "database"])
def test_a_reset_of_a_linked_folder_is_refused_before_anything_is_moved(data: Path, tmp_path: Path, what: str) -> None:
    """Prevents a traceback, and data that stay on the other disk while the next reset has nothing to do."""
    target = _filled(tmp_path / "disk", MARK)
    data.mkdir()
    (data / what).symlink_to(target)
    _refused(_reset(what), "is a link to")
    assert (data / what).resolve() == target
    assert (target / MARK).exists()


def test_a_folder_that_cannot_be_moved_is_one_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a traceback where the folder is a mount point."""
    folder = _filled(data / "broker", MARK)

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    _refused(_reset("broker"), "nothing was deleted")
    assert (folder / MARK).exists()


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x"])
def test_a_place_where_nothing_can_be_created_is_one_sentence(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Prevents a traceback when the data or the downloads are to be below a file, or where the system creates all."""
    for name, use in (("SERVICES_DATA", lambda: preflight.pass_gate(None)), ("SERVICES_CACHE", install.install)):
        with monkeypatch.context() as one:
            one.setenv(name, place)
            with pytest.raises(WrongUse, match=rf"{name}: .*(is not a folder|cannot be created)"):
                use()


def test_a_missing_home_is_one_sentence_and_only_without_another_cache() -> None:
    """Prevents a traceback of every command for an account without a home folder, even one that needs none."""
    homeless = (
        "import pathlib, sys\n"
        "def home(cls): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = classmethod(home)\n"
        "from pipeline.services import reset\n"
        "sys.argv = ['reset', 'broker', '--yes']\n"
        "reset.main()\n"
    )

    def run(**cache: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "SERVICES_DATA": "/nowhere", **cache}
        return subprocess.run([sys.executable, "-c", homeless], cwd=PROJECT, env=env, capture_output=True, text=True)

    refused = run()
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "scripts/reset: This account has no home folder: set HOME, or name a folder in SERVICES_CACHE."
    ]
    assert run(SERVICES_CACHE=str(layout.INSTALLED)).returncode == 0


def test_a_lock_that_is_a_link_empties_nothing(tmp_path: Path) -> None:
    """Prevents: a file of ours emptied by whoever can write to the cache, by a link in the place of a lock."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".broker.lock").symlink_to(precious)
    with cache.locked(tmp_path / "cache", "broker"):
        pass
    assert precious.read_text() == "kept"

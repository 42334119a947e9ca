"""The Python packages: whatever was there, ends in between or comes later, what is installed is what the lock names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.core.settings import PROJECT
from pipeline.services import cache


def test_the_locks_pin_every_file_and_name_no_address() -> None:
    """Prevents an installation that is not the tested one, or that only works from one mirror."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (PROJECT / name).read_text()
        assert "://" not in text
        entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert entries
        assert all("==" in line for line in entries)
        assert all(f"{line}\n    --hash=sha256:" in text for line in entries)


def _wheel(folder: Path, name: str, version: str, *needs: str) -> str:
    """Put an empty package into `folder`; returns its line of a lock."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    about = [f"Name: {name}", f"Version: {version}", "Provides-Extra: more", *(f"Requires-Dist: {n}" for n in needs)]
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *about, ""]))
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} \\\n    --hash=sha256:{cache.sha256(file)}\n"


@pytest.fixture
def a_year_later(tmp_path: Path) -> Path:
    """A checkout of scripts/setup alone, and an index in which each package of its locks has a newer release.

    One package wants another one with an extra, as pytest-cov wants `coverage[toml]`: a lock has the package and what
    the extra brings, but cannot name the extra.
    """
    index, checkout = tmp_path / "index", tmp_path / "checkout"
    for folder in (index, checkout / "scripts", checkout / "pipeline" / "services", checkout / "dashboard"):
        folder.mkdir(parents=True)
    brought = 'plainly>=1; extra == "more"'
    runs = (
        _wheel(index, "wanted", "1.0", brought)
        + _wheel(index, "plainly", "1.0")
        + _wheel(index, "wants", "1.0", "wanted[more]>=0.9")
    )
    (checkout / "requirements.lock").write_text(runs)
    (checkout / "requirements-dev.lock").write_text(runs + _wheel(index, "tested", "1.0", "wanted[more]"))
    for name in ("wanted", "plainly", "wants", "tested"):
        _wheel(index, name, "2.0", *([brought] if name == "wanted" else []))
    shutil.copy(PROJECT / "scripts" / "setup", checkout / "scripts" / "setup")
    for module in ("pipeline/services/install.py", "dashboard/assets.py"):
        (checkout / module).touch()
    return checkout


def _set_up(checkout: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout.parent / "index"), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        ["scripts/setup", *arguments], cwd=checkout, env=os.environ | own | env, capture_output=True, text=True
    )


def _installed(checkout: Path) -> dict[str, str]:
    listed = subprocess.run(
        [".venv/bin/pip", "list", "--format", "json", "--disable-pip-version-check"],
        cwd=checkout,
        capture_output=True,
        check=True,
    )
    return {one["name"]: one["version"] for one in json.loads(listed.stdout)}


def test_a_later_release_breaks_neither_lock(a_year_later: Path) -> None:
    """Prevents a set-up that works until somebody else publishes something: it did in November, by `coverage[toml]`."""
    setup = a_year_later / "scripts" / "setup"
    mended = setup.read_text()
    assert "--no-deps" in mended
    setup.write_text(mended.replace("--no-deps ", ""))
    failed = _set_up(a_year_later, "--dev")
    assert failed.returncode == 2, "what this test is about cannot happen with this pip: find another way to see it"
    assert "wanted[more]" in failed.stderr
    setup.write_text(mended)
    for arguments, expected in (((), {"wanted", "plainly", "wants"}), (("--dev",), {"tested"})):
        done = _set_up(a_year_later, *arguments)
        assert done.returncode == 0, done.stderr
        versions = _installed(a_year_later)
        assert {name: versions.get(name) for name in expected} == dict.fromkeys(expected, "1.0")


def test_a_lock_that_lacks_something_is_said(a_year_later: Path) -> None:
    """Prevents an installation that ends well and fails at its first import."""
    lonely = _wheel(a_year_later.parent / "index", "lonely", "1.0", "plainly>=1")
    (a_year_later / "requirements.lock").write_text(lonely)
    done = _set_up(a_year_later)
    assert done.returncode == 2
    assert "requirements.lock is not complete" in done.stderr
    assert not (a_year_later / ".venv" / ".installed").exists()


def test_an_environment_is_kept_while_it_is_whole_and_of_this_python(a_year_later: Path) -> None:
    """Prevents an environment that is deleted under a running pipeline because the checkout was named by a link, and
    "No module named ..." in every command once the system's Python is a newer one, which looks elsewhere."""
    assert _set_up(a_year_later).returncode == 0
    mark = a_year_later / ".venv" / "mark"
    mark.touch()
    link = a_year_later.with_name("link")
    link.symlink_to(a_year_later)
    for folder in (a_year_later, link):
        assert _set_up(folder).returncode == 0
        assert mark.exists()
    stamp = a_year_later / ".venv" / ".installed"
    where, python = stamp.read_text().splitlines()[0].split(", Python ")
    stamp.write_text(stamp.read_text().replace(f"{where}, Python {python}", f"{where}, Python 3.10"))
    assert _set_up(a_year_later).returncode == 0
    assert not mark.exists()
    assert _installed(a_year_later)["wants"] == "1.0"


def test_after_a_failure_the_python_that_is_named_is_taken(a_year_later: Path) -> None:
    """Prevents advice that does nothing: "name an older Python in PYTHON" was said, and the environment of the newer
    one stayed."""
    lock = a_year_later / "requirements.lock"
    good = lock.read_text()
    lock.write_text(good.replace("wants==1.0", "wants==3.0"))
    failed = _set_up(a_year_later)
    assert failed.returncode == 2
    assert "name an older Python in PYTHON" in failed.stderr
    (a_year_later / ".venv" / "mark").touch()
    lock.write_text(good)
    assert _set_up(a_year_later, PYTHON=sys.executable).returncode == 0
    assert not (a_year_later / ".venv" / "mark").exists()


def test_a_set_up_killed_while_it_installs_leaves_nothing_that_counts(a_year_later: Path) -> None:
    """Prevents half a package that pip takes for an installed one: its metadata may come first, its modules last."""
    assert _set_up(a_year_later).returncode == 0
    pip = a_year_later / ".venv" / "bin" / "pip"
    pip.write_text("#!/bin/sh\nkill -9 $PPID\n")
    (found,) = (a_year_later / ".venv").glob("lib/python*/site-packages/wanted-1.0.dist-info/WHEEL")
    found.unlink()
    assert _set_up(a_year_later, "--dev").returncode == -9
    assert _set_up(a_year_later, "--dev").returncode == 0
    assert found.exists()


def test_nothing_of_the_shell_decides_where_packages_are(a_year_later: Path) -> None:
    """Prevents packages that go somewhere else, or are taken for installed because this shell's PYTHONPATH has them,
    and a set-up that says it is done (or that --user cannot be)."""
    theirs = a_year_later.parent / "theirs"
    with zipfile.ZipFile(a_year_later.parent / "index" / "wants-1.0-py3-none-any.whl") as packed:
        packed.extractall(theirs)
    shell = {name: str(a_year_later / "other") for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    shell |= {"PYTHONPATH": str(theirs), "PYTHONHOME": "/nowhere", "PIP_USER": "1"}
    user = a_year_later / "pip.conf"
    user.write_text("[global]\nuser = true\n")
    done = _set_up(a_year_later, **shell, PIP_CONFIG_FILE=str(user))
    assert done.returncode == 0, done.stderr
    assert _installed(a_year_later)["wants"] == "1.0"
    assert not (a_year_later / "other").exists()


def test_what_is_unpacked_lies_in_the_checkout_and_a_killed_one_s_rest_goes(a_year_later: Path) -> None:
    """Prevents a set-up that fails in a /tmp of 100 MB, or where nothing may be executed, and one that leaves its
    downloads there whenever it is killed."""
    says = "import tempfile\nprint(tempfile.gettempdir())\n"
    (a_year_later / "pipeline" / "services" / "install.py").write_text(says)
    rest = a_year_later / ".services" / "tmp" / "pip-unpack-1"
    rest.mkdir(parents=True)
    done = _set_up(a_year_later)
    assert done.stdout.splitlines() == [str(a_year_later / ".services" / "tmp")]
    assert not rest.exists()

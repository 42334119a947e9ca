"""The shell scripts, on machines, in folders and in shells that are not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.core.settings import PROJECT

SHELL = [
    file
    for folder in ("scripts", ".ci")
    for file in sorted((PROJECT / folder).iterdir())
    if file.read_bytes().startswith(b"#!/usr/bin/env bash")
]
# Those that are nothing but a start of our Python; "setup" stands for what those call before it.
STARTERS = [file for file in SHELL if "/python" in file.read_text() and file.name not in ("python", "setup", "test")]
SAYS = """#!/bin/sh
printf '%s\\n' "$PWD" "$PYTHONPATH" "${PYTHONSAFEPATH-}" "${PYTHONHOME-}" "$*"
"""


@pytest.mark.parametrize("script", SHELL, ids=[file.name for file in SHELL])
def test_a_script_parses(script: Path) -> None:
    """Prevents a script that fails at its first line on a machine that is not ours."""
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the scripts alone, whose Python says where it is, what it would import from, and its arguments."""
    folder = tmp_path / "a checkout"
    shutil.copytree(PROJECT / "scripts", folder / "scripts")
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in (".venv/bin/python", "scripts/setup"):
        (folder / name).write_text(SAYS if name != "scripts/setup" else "#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def _run(script: Path, cwd: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(script), *arguments], cwd=cwd, env=os.environ | env, capture_output=True, text=True)


@pytest.mark.parametrize("name", [file.name for file in STARTERS])
def test_a_script_works_from_any_folder_by_a_link_and_in_any_shell(tmp_path: Path, checkout: Path, name: str) -> None:
    """Prevents "No module named 'pipeline'" wherever one is not in the checkout, as after `cd /` with an absolute path
    or by a link from ~/bin; another folder of the same name that CDPATH finds; and modules of the caller's PYTHONPATH
    or folder in place of those that are installed."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "scripts").mkdir(parents=True)
    link = elsewhere / "link"
    link.symlink_to(checkout / "scripts" / name)
    odd = {"CDPATH": str(elsewhere), "PYTHONPATH": "/theirs", "PYTHONHOME": "/theirs", "PYTHONSAFEPATH": ""}
    for script, cwd in ((checkout / "scripts" / name, elsewhere), (link, elsewhere), (Path("scripts", name), checkout)):
        done = _run(script, cwd, **odd)
        assert done.returncode == 0, done.stderr
        place, path, safe, home, arguments = done.stdout.splitlines()
        assert Path(place) in (cwd, checkout)
        assert (path, safe, home) == (str(checkout), "1", "")
        assert "-m " in arguments


@pytest.mark.parametrize("name", ["doctor", "status", "psql", "reset", "verify"])
def test_before_the_set_up_a_script_says_so(tmp_path: Path, checkout: Path, name: str) -> None:
    """Prevents "line 5: .venv/bin/python: No such file or directory" and exit code 127 from the very script that
    README names for finding out what is wrong."""
    shutil.rmtree(checkout / ".venv")
    done = _run(checkout / "scripts" / name, tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"Nothing is installed in {checkout} yet: run scripts/setup.\n"


@pytest.mark.parametrize("arguments", [["--dmeo"], ["--once"], ["--demo", "now"]])
def test_a_mistyped_start_is_refused_before_the_set_up(checkout: Path, arguments: list[str]) -> None:
    """Prevents ten minutes of downloads before somebody learns that he wrote --dmeo."""
    (checkout / "scripts" / "setup").write_text("#!/bin/sh\ntouch made\n")
    done = _run(checkout / "scripts" / "start", checkout, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / "made").exists()


@pytest.mark.parametrize("name", ["setup", "start", "audit"])
def test_help_is_there_from_any_folder(name: str) -> None:
    """Prevents "sed: can't read ./start" for whoever stands in scripts/."""
    done = subprocess.run([f"./{name}", "--help"], cwd=PROJECT / "scripts", capture_output=True, text=True)
    assert done.returncode == 0
    assert name in done.stdout

"""The shell scripts, on machines and in shells that are not ours."""

from __future__ import annotations

import os
import re
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


@pytest.mark.parametrize("script", SHELL, ids=[file.name for file in SHELL])
def test_a_script_parses(script: Path) -> None:
    """Prevents a script that fails at its first line on a machine that is not ours."""
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SHELL, ids=[file.name for file in SHELL])
def test_an_exported_cdpath_leads_no_script_astray(tmp_path: Path, script: Path) -> None:
    """Prevents a set-up in another folder, and a path that is there twice because `cd` printed it."""
    checkout, decoy = tmp_path / "checkout", tmp_path / "decoy"
    lines = script.read_text().splitlines()
    last = next((number for number, line in enumerate(lines) if re.search(r"(^|\()cd ", line)), None)
    if last is None:
        return
    for folder in (checkout, decoy):
        (folder / script.parent.name).mkdir(parents=True)
    begin = [*lines[: last + 1], 'echo "${here:-$PWD}"', ""]
    (checkout / script.parent.name / script.name).write_text("\n".join(begin))
    done = subprocess.run(
        ["bash", f"{script.parent.name}/{script.name}"],
        cwd=checkout,
        env={**os.environ, "CDPATH": str(decoy)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{checkout}\n", done.stderr

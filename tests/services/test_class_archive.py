"""The class archive: the broker that is started to learn the classes ends with the set-up that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.settings import PROJECT
from pipeline.services.processes import Process, recorded, wait_until

MAKES = (
    "import sys; from pathlib import Path\n"
    "from pipeline.services import class_archive; class_archive._make(Path(sys.argv[1]))"
)


@pytest.mark.faults
def test_the_broker_of_a_killed_set_up_ends(tmp_path: Path) -> None:
    """Prevents a broker of half a gigabyte that nobody knows of and nothing ends, for every set-up that was killed."""
    command = [sys.executable, "-c", MAKES, str(tmp_path / "archive.jsa")]
    found: list[Process] = []

    def started() -> bool:
        found.extend(filter(None, map(recorded, tmp_path.glob("classes-*/broker/pid"))))
        return bool(found)

    with subprocess.Popen(command, cwd=PROJECT, env=os.environ | {"TMPDIR": str(tmp_path)}) as child:
        try:
            assert wait_until(lambda: started() or child.poll() is not None, 120)
            assert found
        finally:
            child.kill()
    assert wait_until(lambda: not found[0].alive, 60)

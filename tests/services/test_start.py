"""The end of a demonstration."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from pipeline import start


@pytest.mark.parametrize(("once", "code"), [(True, 1), (False, 0)])
def test_an_interrupted_demonstration_does_not_say_that_all_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool, code: int
) -> None:
    """Prevents a build that goes on after Ctrl-C because --once ended with 0, which says that all data arrived."""

    def interrupted(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setenv("SERVICES_DATA", str(tmp_path))
    monkeypatch.setattr(start, "supervisord", lambda _: ["sleep", "1000"])
    monkeypatch.setattr(start, "_await_data", interrupted)
    monkeypatch.setattr(start.signal, "signal", lambda *_: None)
    assert start._demo(Console(), once) == code

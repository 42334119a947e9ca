"""Prevents: a start that is refused for ever because a program of a killed supervisord took pid 1 for its supervisord.

Found by `scripts/judge --seed 2026`: supervisord died while its programs were still starting.
"""

from __future__ import annotations

import pytest

from pipeline.core.errors import WrongUse
from pipeline.services import preflight


def test_an_orphan_takes_nobody_for_its_supervisord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERVISOR_ENABLED", "1")  # as supervisord sets it; our parent is none
    with pytest.raises(WrongUse, match="has exited"):
        preflight.supervisor()


def test_outside_of_a_supervisord_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERVISOR_ENABLED", raising=False)
    assert preflight.supervisor() is None

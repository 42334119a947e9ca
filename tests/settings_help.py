"""What a program says about its settings."""

from __future__ import annotations

import pytest

from pipeline.core.errors import WrongUse
from pipeline.core.settings import check_all


def wrong_lines() -> list[str]:
    """One line for each wrong setting of the environment and its file."""
    with pytest.raises(WrongUse) as wrong:
        check_all()
    return str(wrong.value).splitlines()

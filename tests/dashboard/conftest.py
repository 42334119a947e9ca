"""What tests of the dashboard share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.dashboard_help import save
from tests.messages import T0_US, trade


@pytest.fixture
def port(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> Iterator[int]:
    """The port of a dashboard of this test, a process of its own with its gate."""
    in_env()
    save(database_url, [trade(n, at_us=T0_US + n) for n in (1, 2)])
    with subprocess.Popen([python, "-m", "dashboard"], env=env(), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        started = next(line for line in child.stdout if '"process.started"' in line)
        yield urlsplit(json.loads(started)["url"]).port or 0
        child.terminate()
        assert child.wait(30) == 0

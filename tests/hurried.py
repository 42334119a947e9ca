"""A program with some of its constants changed, so that a test of how long it waits need not wait that long.

    python -m tests.hurried producers.live.subscriptions.ACKNOWLEDGE_S=3 -- producers.kraken [arguments]

What `monkeypatch.setattr` is for code in the test's own process.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Mapping


def command(module: str, constants: Mapping[str, float]) -> list[str]:
    """What starts `module` with these constants (`package.module.NAME`: value)."""
    if not constants:
        return [sys.executable, "-m", module]
    changes = [f"{name}={value}" for name, value in constants.items()]
    return [sys.executable, "-m", "tests.hurried", *changes, "--", module]


def main(arguments: list[str]) -> None:
    end = arguments.index("--")
    for change in arguments[:end]:
        path, _, text = change.partition("=")
        place, _, name = path.rpartition(".")
        found = importlib.import_module(place)
        kind = type(getattr(found, name))  # AttributeError: it was renamed, and the test would wait again
        setattr(found, name, kind(text))
    module, *rest = arguments[end + 1 :]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])

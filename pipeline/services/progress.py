"""Progress of a long step: a changing line on a terminal, otherwise a line every now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def size_of(folder: Path) -> int:
    """Return the bytes in all files under `folder`; files may vanish meanwhile."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


@contextmanager
def step(what: str, measure: Callable[[], int] | None = None, expected: int = 0) -> Iterator[None]:
    """Context manager: show the progress of `what`; with `measure` (bytes so far) and `expected`, in percent."""
    terminal = sys.stderr.isatty()
    begun, done = time.monotonic(), threading.Event()

    def show() -> None:
        while not done.wait(0.5 if terminal else 10):
            text = f"{what} … {time.monotonic() - begun:.0f} s"
            if measure is not None:
                so_far = measure()
                share = f" ({min(99, 100 * so_far // expected)} %)" if expected else ""
                text += f", {so_far / 1e6:.0f} MB{share}"
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    print(f"{what} …", end="" if terminal else "\n", file=sys.stderr, flush=True)
    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    try:
        yield
        ending = "done"
    except BaseException:
        ending = "failed"
        raise
    finally:
        done.set()
        shower.join()
        text = f"{what}: {ending} after {time.monotonic() - begun:.0f} s"
        print(f"\r\033[K{text}" if terminal else text, file=sys.stderr, flush=True)

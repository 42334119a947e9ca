"""What a long step shows: a line that changes on a terminal, now and then a line otherwise."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def size_of(folder: Path) -> int:
    """Bytes in all files under `folder`, some of which may vanish meanwhile."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


@contextmanager
def step(what: str, measure: Callable[[], int] | None = None, expected: int = 0) -> Iterator[None]:
    """Show that `what` goes on; with `measure` (bytes so far) and `expected` also how far it is."""
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

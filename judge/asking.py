"""`python -m judge.asking`: `scripts/status --json` repeatedly, a line each, in one process."""

from __future__ import annotations

import json
import sys
import time

from pipeline.ops import collect

# One round takes some 0.2 s of processor time, most of it in other programs.
EVERY_S = 2.0


def main() -> None:
    """Run until the reader closes the pipe. `asked_s` is monotonic time, shared by all processes of a machine."""
    while True:
        asked_s = time.monotonic()
        said = {"asked_s": asked_s, **collect.collect().json()}
        try:
            print(json.dumps(said, default=str), flush=True)
        except BrokenPipeError:
            sys.exit(0)
        time.sleep(max(0.2, EVERY_S - (time.monotonic() - asked_s)))


if __name__ == "__main__":
    main()

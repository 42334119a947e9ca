"""`python -m judge.asking`: what `scripts/status --json` says, again and again, a line each, without a new process."""

from __future__ import annotations

import json
import sys
import time

from pipeline.ops import collect

# One round takes some 0.2 s of processor time here, most of it other programs'.
EVERY_S = 2.0


def main() -> None:
    """Until the reader is gone. `asked_s` is on the clock that all processes of a machine share."""
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

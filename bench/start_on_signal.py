"""`python -m bench.start_on_signal MODULE ARGUMENT ...`: start a program once a line arrives on stdin.

The start of an interpreter takes half a second of processor time, and `bench.writer_from_memory` has that behind it
when its clock starts.
"""

from __future__ import annotations

import importlib
import sys

READY = "ready to begin"


def main() -> None:
    module, *arguments = sys.argv[1:]
    program = importlib.import_module(f"{module}.__main__")
    print(READY, flush=True)
    sys.stdin.readline()
    program.main(arguments)


if __name__ == "__main__":
    main()

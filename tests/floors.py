"""The floors of the house, and what imports what: `scripts/imports` prints it, `test_floors.py` judges it."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# From the ground up; rooms of one floor do not know each other. `pipeline` itself holds only commands.
FLOORS = (
    ("pipeline.core", "simulator"),
    ("schemas",),
    ("pipeline.broker", "pipeline.database"),
    ("venues", "pipeline.archive"),
    ("pipeline.stream",),
    ("pipeline.services",),
    ("pipeline.ops",),
    ("pipeline",),
    ("producers", "consumers"),
    ("dashboard",),
    ("bench",),
    ("judge",),
)
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): file
    for top in sorted({room.partition(".")[0] for room in FLOOR_OF})
    for file in sorted((PROJECT / top).rglob("*.py"))
}


def lines_of_code(file: Path) -> int:
    """Return how many lines hold code: not those that are empty, a comment or a docstring."""
    text = file.read_text()
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docs)


def room_of(module: str) -> str:
    while module not in FLOOR_OF:
        module = module.rpartition(".")[0]
    return module


def imports(file: Path) -> Iterator[str]:
    """Modules of ours that a file names, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write the whole name of a module"
            inside = [f"{node.module}.{name.name}" for name in node.names]
            names = [name if name in MODULES else str(node.module) for name in inside]
        else:
            continue
        yield from (name for name in names if name in MODULES)


def arrows() -> list[tuple[str, str]]:
    """(importing, imported) module, between rooms."""
    pairs = [(module, name) for module, file in MODULES.items() for name in imports(file)]
    return [(module, name) for module, name in pairs if room_of(module) != room_of(name)]


def upstairs() -> list[str]:
    return [f"{one} -> {other}" for one, other in arrows() if FLOOR_OF[room_of(other)] >= FLOOR_OF[room_of(one)]]


def picture() -> str:
    """The floors from the top down, each room with its modules and lines, and the rooms below that it uses."""
    uses: dict[str, set[str]] = defaultdict(set)
    for one, other in arrows():
        uses[room_of(one)].add(room_of(other))
    lines = []
    for number, rooms in reversed(list(enumerate(FLOORS))):
        for room in rooms:
            files = [file for module, file in MODULES.items() if room_of(module) == room]
            size = sum(len(file.read_text().splitlines()) for file in files)
            below = " ".join(sorted(uses[room], key=lambda one: -FLOOR_OF[one])) or "-"
            lines.append(f"{number:>2}  {room:<18}{len(files):>4} modules{size:>7,} lines   uses {below}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(picture())
    print("\n".join(["", *upstairs()] if upstairs() else ["", "no arrow runs up"]))
    sys.exit(1 if upstairs() else 0)

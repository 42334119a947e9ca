"""The house has floors, and no import runs up the stairs: docs/design.md says what lives where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.settings import PROJECT

# From the ground up; rooms of one floor do not know each other. `pipeline` itself holds only commands.
FLOORS = (
    ("pipeline.core", "simulator"),
    ("schemas",),
    ("pipeline.broker", "pipeline.database"),
    ("venues",),
    ("pipeline.services",),
    ("pipeline.ops",),
    ("pipeline",),
    ("producers", "consumers"),
    ("dashboard",),
    ("bench",),
    ("judge",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): file
    for top in sorted({room.partition(".")[0] for room in FLOOR_OF})
    for file in sorted((PROJECT / top).rglob("*.py"))
}


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


def test_nothing_imports_from_above() -> None:
    """Prevents a module whose reader has to know the floors above it, and circles that only a late import breaks."""
    arrows = [
        f"{module} -> {name}"
        for module, file in MODULES.items()
        for name in imports(file)
        if room_of(name) != room_of(module) and FLOOR_OF[room_of(name)] >= FLOOR_OF[room_of(module)]
    ]
    assert arrows == []


def test_every_folder_of_python_has_its_floor() -> None:
    """Prevents a new folder that no rule looks at."""
    folders = {file.parent.name for file in PROJECT.glob("*/*.py") if not file.parent.name.startswith(".")}
    assert folders - {"tests", "scripts"} == {room.partition(".")[0] for room in FLOOR_OF}

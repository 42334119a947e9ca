"""A module imports only from the layers below its own, which docs/design.md lists."""

from __future__ import annotations

from collections import Counter

from tests.floors import FLOOR_OF, MODULES, PROJECT, lines_of_code, picture, upstairs

LONGEST = 300


def test_nothing_imports_from_above() -> None:
    """Prevents a module whose reader has to know the floors above it, and circles that only a late import breaks."""
    assert upstairs() == []


def test_the_picture_shows_every_room() -> None:
    """Prevents a picture that looks well because something is left out."""
    shown = picture()
    assert all(f"  {room} " in shown for room in FLOOR_OF)


def test_every_folder_of_python_has_its_floor() -> None:
    """Prevents a new folder that no rule looks at."""
    folders = {file.parent.name for file in PROJECT.glob("*/*.py") if not file.parent.name.startswith(".")}
    assert folders - {"tests", "scripts"} == {room.partition(".")[0] for room in FLOOR_OF}


def test_a_module_has_one_idea() -> None:
    """Prevents modules that grow until nobody reads them whole."""
    tests = {str(file.relative_to(PROJECT)): file for file in (PROJECT / "tests").rglob("*.py")}
    sizes = {module: len(file.read_text().splitlines()) for module, file in (MODULES | tests).items()}
    assert {module: size for module, size in sizes.items() if size > LONGEST} == {}


def test_what_a_venue_needs_of_its_own_is_little() -> None:
    """Prevents a venue that brings what others have too. Counted without comments, docstrings and formats."""
    own: Counter[str] = Counter()
    for file in (PROJECT / "venues").glob("*/*.py"):
        if (file.parent / "adapter.py").exists():
            own[file.parent.name] += lines_of_code(file)
    assert len(own) >= 6
    assert {venue: lines for venue, lines in own.items() if lines > LONGEST} == {}

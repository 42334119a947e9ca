"""Named statements of the `sql/` folder. Values are always parameters, never formatted in."""

from __future__ import annotations

from functools import cache

from pipeline.core.settings import PROJECT

FOLDER = PROJECT / "sql"


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of `sql/NNNN_<name>.sql` in order."""
    files = sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(f.name[:4]), f.stem, f.read_text(encoding="utf-8")) for f in files]

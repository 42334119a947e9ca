"""Named statements of the `sql/` folder. Values are always parameters, never formatted in.

A line `-- include: parts/<name>` stands for the text of that file. So what two statements share is written once and the
database still gets it as plain SQL: a function in its place is called for every row.
"""

from __future__ import annotations

import re
from functools import cache

from pipeline.core.settings import PROJECT

FOLDER = PROJECT / "sql"
_INCLUDE = re.compile(r"^ *-- include: (\S+)\n", re.MULTILINE)


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`, with what it includes."""
    text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: statement(found[1]), text)


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of `sql/NNNN_<name>.sql` in order."""
    files = sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(f.name[:4]), f.stem, f.read_text(encoding="utf-8")) for f in files]

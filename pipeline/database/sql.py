"""Named statements of the `sql/` folder. Values are always parameters, never formatted in.

A line `-- include: parts/<name>` is replaced by the text of that file, so that common parts are written once and the
database still gets plain SQL. A database function would be called for every row.
"""

from __future__ import annotations

import re
from functools import cache

from pipeline.core.settings import PROJECT

FOLDER = PROJECT / "sql"
_INCLUDE = re.compile(r"^ *-- include: (\S+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n| +-- .*$", re.MULTILINE)


@cache
def statement(name: str) -> str:
    """Return the text of `sql/<name>.sql` with its includes and without comments: a % in a comment would be taken for a
    parameter, and the database would parse comments at each call."""
    text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    return _COMMENT.sub("", _INCLUDE.sub(lambda found: statement(found[1]), text))


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, text) of `sql/NNNN_<name>.sql` in order."""
    files = sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(f.name[:4]), f.stem, f.read_text(encoding="utf-8")) for f in files]

"""Read `.env`: settings in a file, one `NAME=value` per line.

The grammar is python-dotenv's (comments, quotes, `export`, multi-line values in quotes, `${NAME}`), but nothing is
skipped: an unreadable line or a duplicate name is an error with its line number. No error shows the content of a line,
which may be part of a password.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream

from pipeline.core.errors import WrongUse
from pipeline.core.text_files import read_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Entry:
    """A setting in the file."""

    name: str
    value: str
    line: int


@dataclass
class EnvFile:
    """Settings by upper-case name, and a sentence for each invalid line."""

    entries: dict[str, Entry] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def read_env(path: Path, shown: str) -> EnvFile:
    """Read the settings of `path`, called `shown` in sentences; none if there is no such file."""
    found = EnvFile()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return found
    except (OSError, ValueError):
        pass  # it exists but cannot be read, which is reported below
    try:
        text = read_text(path, "ENV_FILE")
    except WrongUse as error:
        found.wrong.append(str(error))
        return found
    named: list[tuple[str, str | None]] = []
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        # The parser's line number includes blank lines before the binding.
        original = binding.original.string
        line = binding.original.line + original[: len(original) - len(original.lstrip())].count("\n")
        if binding.key is None and not binding.error:
            continue  # a comment or the end
        if binding.error or binding.value is None or not _NAME.fullmatch(binding.key or ""):
            found.wrong.append(
                f"{shown} line {line}: not a setting; write NAME=value (with quotes around a value with spaces or #),"
                " or start a comment with #."
            )
            continue
        name = str(binding.key)
        first = lines.setdefault(name.upper(), line)
        if first != line:
            found.wrong.append(f"{shown} line {line}: {name} is set in line {first} already; keep one of them.")
        named.append((name, binding.value))
    for name, value in resolve_variables(named, override=True).items():
        found.entries[name.upper()] = Entry(name, value or "", lines[name.upper()])
    return found

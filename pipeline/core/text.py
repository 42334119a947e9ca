"""Make texts safe to show: those of strangers on a terminal, and those with passwords anywhere."""

from __future__ import annotations

import re

_URL_PASSWORD = re.compile(r"\b(?P<before>\w+://[^/\s:@]*:)[^@\s/]+@")
_DSN_PASSWORD = re.compile(r"(password=)\S+", re.IGNORECASE)


def redact(text: str) -> str:
    """Return `text` with passwords in URLs and connection strings replaced."""
    return _DSN_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\g<before>***@", text))


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Return `text` with unprintable characters escaped: terminal control codes, direction marks, unpaired surrogates,
    and line ends unless `keep_lines`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (keep_lines and c == "\n") else c.encode("unicode_escape").decode() for c in text
    )

"""Read text files written by users (`.env`, symbols, instruments), in any Unicode encoding.

A file without a byte order mark must be UTF-8: any other encoding would be a guess, and a wrongly decoded password or
name would fail elsewhere.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path

from pipeline.core.errors import WrongUse

MAX_BYTES = 4 << 20  # a list of symbols has some 20 kB at most; a larger file is a mistake
# UTF-32's mark starts like UTF-16's, so it comes first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, name: str) -> str:
    """Return the text of `path`, with ``\\n`` as line ends.

    Raises `WrongUse` with one sentence that starts with `name`, the setting or option that names the file.
    """
    return decoded(_bytes(path, name), f"{name}: {path}")


def decoded(data: bytes, what: str) -> str:
    """Decode `data`. Raises `WrongUse` with one sentence that starts with `what`."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = encoding.upper().removesuffix("-SIG")
        raise WrongUse(f"{what}: line {line} is not {shown} text; save the file as UTF-8.") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise WrongUse(f"{what}: line {line} contains a NUL byte, so it is not text; save the file as UTF-8.")
    return text


def _bytes(path: Path, name: str) -> bytes:
    try:
        data = file_bytes(path, MAX_BYTES)
    except OSError as error:
        raise WrongUse(f"{name}: {path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise WrongUse(f"{name}: the path contains a NUL byte.") from None
    if len(data) > MAX_BYTES:
        raise WrongUse(f"{name}: {path} is larger than {MAX_BYTES >> 20} MB; is it the right file?")
    return data


def file_bytes(path: Path, most: int) -> bytes:
    """Return the content of a file, or its first `most` + 1 bytes. Raises `OSError`, also if it is no file."""
    # Non-blocking: a pipe that nobody writes to would block forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) and not path.samefile(os.devnull):
            raise OSError(errno.EINVAL, "it is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1)
    finally:
        os.close(descriptor)

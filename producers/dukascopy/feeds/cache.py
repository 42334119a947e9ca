"""Cache of raw answers on disk, so that a second load needs no requests.

A file is the answer in a zlib container, whose checksum (Adler-32) is verified on every read; a damaged file is ignored
and fetched again. Its modification time is the time of fetching. Only answers with quotes of finished hours are kept:
an empty one must be confirmed by a second request.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

from pipeline.core import events
from pipeline.core.log import get_logger

MAX_BYTES = 32 << 20  # of an answer, compressed and decompressed


class Cache:
    """Raw answers by feed and path. With `folder` None nothing is kept; without `read` answers are only written, so
    that a corrected one replaces the old one on disk."""

    def __init__(self, folder: Path | None, *, read: bool = True) -> None:
        self._folder, self._reads = folder, read

    def _file(self, feed: str, path: str) -> Path | None:
        return None if self._folder is None else self._folder / feed / f"{path}.z"

    def get(self, feed: str, path: str) -> tuple[bytes, int] | None:
        """Return (answer, time of fetching in µs), or None."""
        file = self._file(feed, path)
        try:
            if file is None or not self._reads:
                return None
            with file.open("rb") as opened:
                unpacker, packed = zlib.decompressobj(), opened.read(MAX_BYTES + 1)
            body = unpacker.decompress(packed, MAX_BYTES)
            if not unpacker.eof or len(packed) > MAX_BYTES:
                raise zlib.error("truncated or far too large")
            return body, file.stat().st_mtime_ns // 1000
        except FileNotFoundError:
            return None
        except (OSError, zlib.error) as error:
            get_logger().warning(events.REQUEST_RETRY, cache=str(file), error=str(error), text="fetched again")
            return None

    def has(self, feed: str, path: str) -> bool:
        file = self._file(feed, path)
        return self._reads and file is not None and file.is_file()

    def put(self, feed: str, path: str, body: bytes, fetched_at_us: int, *, compress: bool) -> None:
        """Keep an answer. Errors are logged only: on a full or read-only disk there is just no cache."""
        file = self._file(feed, path)
        if file is None:
            return
        part = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(zlib.compress(body, 1 if compress else 0))
            os.utime(part, ns=(fetched_at_us * 1000, fetched_at_us * 1000))
            part.replace(file)
        except (OSError, OverflowError) as error:
            part.unlink(missing_ok=True)
            get_logger().warning(events.REQUEST_RETRY, cache=str(file), error=str(error), text="not kept")

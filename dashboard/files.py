"""The page's static files: a fixed list made at the start, so that no path leads elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

from pipeline.services import charts_library

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    "": "text/plain",
}


class Files:
    """Serves `/`, `/static/…` and `/vendor/…`; browsers cache a file until it changes."""

    def __init__(self) -> None:
        self._files = {"/": STATIC / "index.html"}
        roots = {"/static": STATIC, **({"/vendor": charts_library.FOLDER} if charts_library.installed() else {})}
        for root, folder in roots.items():
            self._files |= {
                f"{root}/{file.relative_to(folder).as_posix()}": file
                for file in folder.rglob("*")
                if file.is_file() and file.suffix in _TYPES
            }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.path)
        if file is None:
            raise web.HTTPNotFound
        body = file.read_bytes()  # 190 kB at most, and in the page cache
        tag = hashlib.sha256(body).hexdigest()[:32]
        sent = request.if_none_match
        if sent is not None and any(one.value == tag for one in sent):
            answer = web.Response(status=304)
        else:
            answer = web.Response(body=body, content_type=_TYPES[file.suffix], charset="utf-8")
        answer.etag = tag
        return answer

"""Replay of recorded WebSocket sessions, byte by byte: `/replay/<venue>`, by `Listing.session`.

The frames up to the first acknowledgement's predecessor (Kraken's status) go out on connect, the rest after the
client's first message. `?file=kraken/ws_v2_ohlc.jsonl` chooses another recording, `?speed=1` keeps the recorded pace
where the recording has times (0, the default, does not wait). Then the connection stays open and silent.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from aiohttp import WSMsgType, web

from simulator.config import RECORDINGS
from simulator.venues import listings


def frames(path: Path) -> list[tuple[float, str]]:
    """What the venue sent: seconds since the session's first line (0 where the recording has no times), and text."""
    found: list[tuple[float, str]] = []
    first = 0.0
    for line in path.read_text().splitlines():
        content = json.loads(line)
        if "t" in content and "data" in content:
            first = first or content["ts"]
            if content["t"] == "recv":
                found.append((content["ts"] - first, content["data"]))
        else:
            found.append((0.0, line))
    return found


async def replay(request: web.Request) -> web.StreamResponse:
    """Serve one client of a recorded session."""
    listing = listings().get(request.match_info["venue"])
    name = request.query.get("file") or (listing.session if listing is not None else "") or ""
    path = (RECORDINGS / name).resolve()
    if not name or RECORDINGS.resolve() not in path.parents or not path.is_file():
        raise web.HTTPNotFound(text="no such recording")
    speed = float(request.query.get("speed", 0))
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    session = frames(path)
    greeting = [frame for frame in session[:1] if '"channel":"status"' in frame[1]]
    for _, text in greeting:
        await socket.send_str(text)

    async def rest() -> None:
        at = 0.0
        for moment, text in session[len(greeting) :]:
            if speed and moment > at:
                await asyncio.sleep((moment - at) / speed)
                at = moment
            await socket.send_str(text)

    sending: asyncio.Task[None] | None = None
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT and sending is None:
                sending = asyncio.create_task(rest())
    finally:
        if sending is not None:
            sending.cancel()
    return socket

"""The newest dead letters, shared by all pages: read in a thread, cached, and read again only if some were added."""

from __future__ import annotations

import json
import time
from typing import Any

import pulsar

from consumers import letter_box
from consumers.letter_box import DeadLetter
from dashboard.shared import Shared
from pipeline.broker.admin import Admin
from pipeline.core.errors import Unavailable
from pipeline.core.settings import PulsarSettings

SHOWN = 100
# The broker's first answer takes seconds on a busy machine; reading itself ends after `letter_box.MOST_S`.
WAIT_S = 15.0
TEXT_MOST, WORD_MOST = 4_000, 300
# Larger integers lose digits in a browser.
_EXACT = 1 << 53


class Letters:
    """The newest dead letters: `await letters.newest()`."""

    def __init__(self, settings: PulsarSettings, client: pulsar.Client) -> None:
        self._settings, self._client = settings, client
        self._admin = Admin(settings)
        self._ends: dict[str, tuple[int, int] | None] = {}
        self._found: dict[str, Any] = {}
        self._shared = Shared("letters", self._read)
        self.close = self._shared.close

    async def newest(self) -> dict[str, Any]:
        """Return `total` and the newest `letters`, newest first, without replayed ones. Raises `Unavailable`."""
        if not await self._shared.renew(WAIT_S):
            raise Unavailable(f"the broker did not return the dead letters within {WAIT_S:.0f} s")
        return self._found

    def _read(self) -> None:
        """Read the letters. Runs in the thread. Raises `Unavailable`."""
        ledgers = {topic: self._admin.ledgers(topic) for topic in letter_box.topics(self._settings)}
        ends = {topic: found[-1] if found else None for topic, found in ledgers.items()}
        if not self._found or ends != self._ends:
            began = time.monotonic()
            letters = letter_box.read(self._settings, self._client)
            shown = [shown_letter(one) for one in reversed(letters) if not one.replayed]
            entries = sum(count for found in ledgers.values() for _, count in found)
            backlog = sum(self._admin.backlog(topic, "nobody").messages for topic in ledgers)  # an entry may have many
            self._found = {"total": max(entries, backlog, len(shown)), "letters": shown[:SHOWN]}
            # A read that hit its time limit is incomplete: it is repeated at the next request.
            self._ends = ends if time.monotonic() - began < letter_box.MOST_S else {}


def shown_letter(one: DeadLetter) -> dict[str, Any]:
    """Return a letter as displayed by the page. Never raises, whatever its content."""
    content = one.content
    whole = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
    words = {name: _cut(getattr(one, name), WORD_MOST) for name in ("topic", "message_id", "reason", "detail")}
    return words | {
        "id": one.id,
        "source": one.source,
        "row": one.row,
        "at_us": min(max(one.at_us, 0), _EXACT),
        "replayed": False,
        "bytes": len(one.payload),
        "text": _cut(whole, TEXT_MOST),
        "payload": content if len(whole) <= TEXT_MOST else _cut(whole, TEXT_MOST),
    }


def _cut(text: str, most: int) -> str:
    """Truncate a text, with a mark. Control characters have been removed before."""
    return text if len(text) <= most else text[:most] + "…"

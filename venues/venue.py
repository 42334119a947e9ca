"""What a live venue adds to `Connection`, which is the same for all: how its texts look, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from venues.events import Said


class Venue(Protocol):
    """What is a venue's own; times are seconds."""

    name: str
    url: str
    products: tuple[str, ...]
    channels: tuple[str, ...]  # those that are acknowledged per product; that of the trades, where there is one, first
    spaces: dict[str, str]  # namespace -> channel
    products_per_text: int
    frame_timeout_s: float
    quiet_s: float  # a product is not asked after before this silence
    messages_per_s: float  # that the venue lets us send
    rest_per_s: float  # that it lets us ask
    watches_trades: bool  # whether trades are subscribed, so that their silence means something

    def opened(self) -> list[str]:
        """A new connection begins: forget what belongs to the old one. Returns texts to send first."""

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        """The text to send; `request` is our number for it, to be found in the answer where the venue repeats it."""

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        """The text to send; `request` as in `subscribe`. Its answer needs no word."""

    def read(self, frame: bytes) -> list[Said]:
        """What the frame says; never raises."""

    def newest_trade(self, product_id: str) -> int:
        """The id of the newest trade that REST knows. Called from another thread; raises `PipelineError`."""

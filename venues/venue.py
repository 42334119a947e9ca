"""What a live venue adds to the shared `Connection`: its messages and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from venues.events import VenueEvent


class Venue(Protocol):
    """One venue's stream. All methods except `newest_trade` run in the connection's thread. Durations are seconds."""

    name: str
    url: str
    products: tuple[str, ...]
    channels: tuple[str, ...]  # acknowledged per product; the channel of trades first, if any
    spaces: dict[str, str]  # namespace -> channel
    products_per_text: int  # most products in one subscribe message
    frame_timeout_s: float  # a connection without any frame for this long is dead
    quiet_s: float  # silence after which a product is checked against REST
    messages_per_s: float  # WebSocket messages that we may send
    rest_per_s: float  # REST requests that we may send
    watches_trades: bool  # whether trades are subscribed, so that their silence is checked

    def opened(self) -> list[str]:
        """Reset the state of the previous connection; returns the messages to send first. Called after connecting."""

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        """Return the message that subscribes `products`. `request` is our id, which some venues repeat in the
        answer."""

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        """Return the message that unsubscribes `products`; `request` as in `subscribe`. No answer is awaited."""

    def read(self, frame: bytes) -> list[VenueEvent]:
        """Parse a frame into events: unknown ones are ignored, malformed ones `Unreadable`. Never raises."""

    def newest_trade(self, product_id: str) -> int:
        """Request the newest trade's id by REST. Blocks; called from a thread of its own. Raises `PipelineError`."""

"""What the WebSocket streams of the venues have in common."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from pipeline.core.settings import StreamSettings


class NewestTrade(Protocol):
    """The part of a venue's REST interface that shows whether a silent product has traded."""

    def newest_trade(self, product_id: str) -> int:
        """Return the newest trade's id. Raises `PipelineError`."""


R = TypeVar("R", bound=NewestTrade)


class WebSocketVenue(Generic[R]):
    """The part of `venues.venue.Venue` that follows from settings and REST.

    A venue adds its name, its limits, `subscribe`, `unsubscribe` and `read`. `spaces`: namespace -> channel, trades
    first. Create `rest` with few attempts: a silent product is checked again soon anyway.
    """

    watches_trades: bool = True

    def __init__(self, settings: StreamSettings, products: tuple[str, ...], spaces: dict[str, str], rest: R) -> None:
        self.url, self.products, self.spaces = settings.ws_url, products, spaces
        self.channels = tuple(spaces.values())
        self.rest_per_s = settings.rest_rate
        self.frame_timeout_s, self.quiet_s = settings.ws_timeout, settings.quiet_seconds
        self._rest = rest

    def opened(self) -> list[str]:
        """See `Venue`. There is no state per connection unless a venue overrides this."""
        return []

    def newest_trade(self, product_id: str) -> int:
        """See `Venue`."""
        return self._rest.newest_trade(product_id)

"""How the ids that a venue gives to trades follow from those of the tape, which counts every product by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Numbering:
    """Ids of one product are `step` apart, and each product of the venue has its own `remainder`."""

    step: int = 1
    remainder: int = 0

    def trade_id(self, tape_id: int) -> int:
        """The venue's id of a trade of the tape."""
        return tape_id * self.step + self.remainder

    def tape_id(self, trade_id: int) -> int | None:
        """The tape's id of a trade of the venue; None where the venue gives no such id to this product."""
        number, remainder = divmod(trade_id, self.step)
        return number if remainder == self.remainder else None

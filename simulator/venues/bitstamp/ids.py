"""Bitstamp's trade ids: unique over all pairs, ascending within one, never contiguous.

The tape counts each pair by itself; here each pair has its own remainder.
"""

from __future__ import annotations

from simulator.world import World

PAIRS = 64  # more than are listed


def trade_id(world: World, symbol: str, tape_id: int) -> int:
    """The venue's id of a trade of the tape; `tape_id` leads back from it."""
    names = [product.symbol for product in world.products("bitstamp")]
    return tape_id * PAIRS + names.index(symbol)


def tape_id(number: int) -> int:
    """The tape's id of a trade of the venue."""
    return number // PAIRS

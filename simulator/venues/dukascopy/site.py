"""What runs for this venue."""

from __future__ import annotations

from simulator.site import Part, Site
from simulator.venues.dukascopy.answers import DukascopyJson
from simulator.venues.dukascopy.files import DukascopyFiles, policy
from simulator.world import World


def _parts(world: World) -> tuple[Part, ...]:
    files = DukascopyFiles(world)
    return files, DukascopyJson(files)


SITE = Site(
    policies=lambda config: [policy()],
    parts=_parts,
)

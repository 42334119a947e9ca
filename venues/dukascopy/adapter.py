"""The Dukascopy adapter."""

from __future__ import annotations

from venues.adapter import Proof, Vendor

ADAPTER = Vendor(name="dukascopy", title="Dukascopy", proof=Proof.HOURS)

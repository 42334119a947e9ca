"""The table of all programs, used by supervisord, watchdog, status, doctor and dashboard."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.settings import (
    ArchiveSettings,
    CommonSettings,
    Section,
    folder_sections,
    load,
    venue_sections,
)


@dataclass(frozen=True)
class Program:
    """A supervised process: `python -m <module> <args>`, with health and metrics on base port + `offset`."""

    name: str
    module: str
    offset: int
    args: tuple[str, ...] = field(default=())
    switch: type[Section] | None = None  # the section with its `enabled`
    once: bool = False  # ends when its work is done, and has no `/health`

    @property
    def enabled(self) -> bool:
        return self.switch is None or bool(getattr(load(self.switch), "enabled", True))

    @property
    def own_port(self) -> int | None:
        """The port set by the program's own section, if any."""
        if self.switch is None or "metrics_port" not in self.switch.model_fields:
            return None
        return getattr(load(self.switch), "metrics_port", None)

    @property
    def port(self) -> int:
        """Local port of `/health` and `/metrics`; 0 (any free port) if the base port is 0."""
        if self.own_port is not None:
            return self.own_port
        base = load(CommonSettings).metrics_base_port
        return base + self.offset if base else 0


PROGRAMS = (
    Program("trades-writer", "consumers.trades", 1),
    Program("quotes-writer", "consumers.quotes", 2),
    Program("candles-writer", "consumers.candles", 3),
    Program("gap-filler", "consumers.gap_filler", 4),
    *(Program(name, f"producers.{name}", one.metrics_offset, switch=one) for name, one in venue_sections().items()),
    Program("dukascopy", "producers.dukascopy", 7, ("--fill-gaps", "--follow"), folder_sections()["dukascopy"]),
    Program("exchange-candles", "producers.exchange_candles", 8, ("--follow",), folder_sections()["exchange_candles"]),
    Program("archive", "consumers.archive", 15, switch=ArchiveSettings),
    Program("dashboard", "dashboard", 9),
    Program("retention", "pipeline.retention", 11),
    Program("watchdog", "pipeline.watchdog", 10),
)
BY_NAME = {program.name: program for program in PROGRAMS}

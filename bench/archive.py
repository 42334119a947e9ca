"""A year of quotes straight into the archive, and read back from there."""

from __future__ import annotations

import json

from bench.environment import Figures, Ground, first, say
from bench.history import through_pulsar
from bench.load import year_of_hours

_ARCHIVED = "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM archived"


def measure(ground: Ground) -> Figures:
    """Load the year once, through Pulsar; `bench.read_archive` reads it, in a process of its own."""
    data = year_of_hours(ground.log_folder / "year-for-archive")
    settings = {"ARCHIVE_PATH": str(ground.log_folder / "year-archive"), "ARCHIVE_DIRECT_DAYS": "30"}
    with ground.tables() as place:
        run = through_pulsar(place, data, settings)
        with place.connect() as conn:
            files, rows, size = (int(value) for value in first(conn, _ARCHIVED))
        place.start("consumers.archive", "--once", **settings).wait()  # opens the catalog for DuckDB
        reader = place.start("bench.read_archive", **settings)
        reader.wait(600)
        read = json.loads(reader.log.read_text().splitlines()[-1])
    say(
        f"archive: a year, {run.quotes:,} quotes at {run.rate:,.0f}/s into {files} files of {size / 1e6:.0f} MB, writer"
        f" at most {run.writer_mb:.0f} MB; read in {read['read_s']:.1f} s, minute candles in {read['candles_s']:.1f} s"
    )
    return {
        "quotes": run.quotes,
        "quotes_per_s": run.rate,
        "writer_cpu_s": run.writer_cpu,
        "writer_mb": run.writer_mb,
        "share_past_tables": rows / run.quotes,
        "files": files,
        "bytes_per_quote": size / max(1, rows),
        **read,
    }

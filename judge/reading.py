"""`python -m judge.reading KIND VENUE PRODUCT START END FILE`: what `pipeline.read` gives, exact, as a Parquet file."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq

from pipeline import read


def main() -> None:
    """Read ticks of an interval from wherever they are."""
    kind, venue, product, start, end, file = sys.argv[1:]
    found = (read.trades if kind == "trades" else read.quotes)(venue, product, start, end, exact=True)
    pq.write_table(found.arrow(), file)


if __name__ == "__main__":
    main()

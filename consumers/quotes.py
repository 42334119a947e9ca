"""`python -m consumers.quotes`: store hours of historical quotes and live tickers in `quotes`."""

from __future__ import annotations

import click

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.writer import run
from pipeline.core.runtime import program


@click.command()
@program("quotes-writer")
def main() -> int:
    """Store quotes from the topics `quotes/*` and `tickers/*`; runs until stopped."""
    return run("quotes-writer", [Hours(), Tickers()])


if __name__ == "__main__":
    main()

"""Select the symbols: those that enough of the exchanges list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.core import events
from pipeline.core.errors import WrongUse
from pipeline.core.log import get_logger
from pipeline.core.products import canonical_product
from pipeline.core.text_files import read_text
from pipeline.database import query
from pipeline.database.connection import Connection

SHOWN = 10  # items of a list of invalid symbols


def read_symbols(given: Sequence[str], file: Path | None, conn: Connection | None) -> tuple[str, ...]:
    """Return canonical products from the first source that has any: the list, the file, the table `watchlist`.

    Raises `WrongUse` with a sentence for each invalid symbol typed by a user. An invalid row of the table is logged and
    skipped, so that it does not stop the others.
    """
    if given:
        texts = [("--symbols", text) for text in given]
    elif file is not None:
        texts = _of_file(file)
    elif conn is not None:
        texts = [("watchlist", text) for text in query.scalars(conn, "SELECT symbol FROM watchlist ORDER BY symbol")]
    else:
        texts = []
    good: list[str] = []
    wrong: list[str] = []
    for where, text in texts:
        try:
            good.append(canonical_product(text))
        except WrongUse as error:
            wrong.append(f"{where}: {str(error)[:200]}")
    if wrong and (given or file is not None):
        raise WrongUse("\n".join([*wrong[:SHOWN], *([f"... and {len(wrong) - SHOWN} more"] if wrong[SHOWN:] else [])]))
    if wrong:
        get_logger().warning(events.SYMBOLS_LEFT_OUT, text="; ".join(wrong[:SHOWN]), symbols=len(wrong))
    if not good:
        raise WrongUse(
            "no symbols: give --symbols=BTC/USD,ETH/USD or --symbols-file, or fill the table "
            "(INSERT INTO watchlist (symbol) VALUES ('BTC/USD'))."
        )
    return tuple(dict.fromkeys(good))


def _of_file(file: Path) -> list[tuple[str, str]]:
    """Return (place, symbol) for each symbol of the file."""
    return [
        (f"--symbols-file: line {number}", word)
        for number, line in enumerate(read_text(file, "--symbols-file").split("\n"), 1)
        for word in line.partition("#")[0].replace(",", " ").replace(";", " ").split()
    ]


def required_of(exchanges: Sequence[str], wish: int) -> int:
    """Return the quorum as a number. Raises `WrongUse` if it cannot be met."""
    if wish > len(exchanges):
        raise WrongUse(
            f"--min-exchanges-required={wish}, but only {len(exchanges)} exchange(s) are given "
            f"({', '.join(exchanges)}); name more or require fewer."
        )
    if wish == 0:
        get_logger().info(
            events.SYMBOLS_CHECKED,
            text=f"Auto-detected min exchanges required: {len(exchanges)}",
            required=len(exchanges),
            single_mode=len(exchanges) == 1,
        )
    return wish or len(exchanges)


def check_symbols(
    products: Sequence[str], listed: Mapping[str, Collection[str]], required: int, unknown: Collection[str] = ()
) -> dict[str, list[str]]:
    """Return product -> exchanges, for the products that meet the quorum; the others are logged.

    `listed`: the products of each exchange; `unknown`: exchanges that did not answer, assumed to have every product.
    Raises `WrongUse` if no product is left.
    """
    where = {product: [venue for venue, has in listed.items() if product in has] for product in products}
    good = {product: venues for product, venues in where.items() if len(venues) + len(unknown) >= required}
    log = get_logger()
    log.info(
        events.SYMBOLS_CHECKED,
        text=f"Symbol validation: {len(good)}/{len(products)} symbols meet minimum {required} exchange requirement",
        symbols=len(products),
        good=len(good),
        required=required,
    )
    short = {product: venues for product, venues in where.items() if product not in good}
    if short:
        named = "; ".join(f"{p} ({', '.join(v) or 'on none'})" for p, v in short.items())
        log.warning(events.SYMBOLS_LEFT_OUT, text=f"On fewer than {required} exchanges: {named}", symbols=list(short))
    if not good:
        names = [*listed, *unknown]
        raise WrongUse(
            f"none of {', '.join(products)} is on {required} of {', '.join(names)}; "
            "lower --min-exchanges-required, or name other --symbols or --exchanges."
        )
    return good

"""Which symbols are worked on: those that enough of the exchanges list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline import events
from pipeline.database import Connection
from pipeline.errors import WrongUse
from pipeline.log import get_logger
from pipeline.products import canonical_product


def read_symbols(given: Sequence[str], file: Path | None, conn: Connection | None) -> tuple[str, ...]:
    """Canonical products from the first source that has any: the list, the file, the table `watchlist`."""
    texts = list(given)
    if not texts and file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise WrongUse(f"--symbols-file: {file} cannot be read ({error.strerror}).") from None
        texts = [word for line in lines for word in line.partition("#")[0].replace(",", " ").split()]
    elif not texts and conn is not None:
        texts = [row[0] for row in conn.execute("SELECT symbol FROM watchlist ORDER BY symbol")]
    if not texts:
        raise WrongUse(
            "no symbols: give --symbols=BTC/USD,ETH/USD or --symbols-file, or fill the table "
            "(INSERT INTO watchlist (symbol) VALUES ('BTC/USD'))."
        )
    return tuple(dict.fromkeys(canonical_product(text) for text in texts))


def required_of(exchanges: Sequence[str], wish: int) -> int:
    """The quorum as a number. Raises `WrongUse` where it cannot be met."""
    if wish > len(exchanges):
        raise WrongUse(
            f"--min-exchanges-required={wish}, but only {len(exchanges)} exchange(s) are named "
            f"({', '.join(exchanges)}); name more or require fewer."
        )
    if wish == 0:
        get_logger().info(
            events.SYMBOLS_CHECKED, text=f"Auto-detected min exchanges required: {len(exchanges)}",
            required=len(exchanges), single_mode=len(exchanges) == 1,
        )  # fmt: skip
    return wish or len(exchanges)


def check_symbols(
    products: Sequence[str], listed: Mapping[str, Collection[str]], required: int, unknown: Collection[str] = ()
) -> dict[str, list[str]]:
    """Product -> exchanges to ask, for the products that meet the quorum; the others are named in a warning.

    `listed` says what each exchange has; `unknown` are exchanges that did not answer, which may have everything.
    Raises `WrongUse` when none is left.
    """
    where = {product: [venue for venue, has in listed.items() if product in has] for product in products}
    good = {product: venues for product, venues in where.items() if len(venues) + len(unknown) >= required}
    log = get_logger()
    log.info(
        events.SYMBOLS_CHECKED,
        text=f"Symbol validation: {len(good)}/{len(products)} symbols meet minimum {required} exchange requirement",
        symbols=len(products), good=len(good), required=required,
    )  # fmt: skip
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

"""Rows of `instruments`: created by writers at the first message, and by requests for data before that."""

from __future__ import annotations

from pipeline.database.connection import Connection


def instrument(
    conn: Connection,
    venue: str,
    product_id: str,
    asset_class: str,
    proof: str | None,
    price_scale: int | None = None,
) -> tuple[int, int | None]:
    """Return id and price scale of an instrument, which is created if it is new.

    `proof`: a value of `venues.adapter.Proof`, which replaces the stored one; None: unknown. `price_scale`: decimals of
    its prices; the first one is kept.
    """
    # Look it up first: a conflicting INSERT consumes an id too, and heads are written every two seconds.
    found = conn.execute(
        "SELECT instrument_id, price_scale, proof FROM instruments JOIN trade_coverage USING (instrument_id)"
        " WHERE venue = %s AND product_id = %s",
        (venue, product_id),
    ).fetchone()
    if found is not None:
        known_id, scale, known_proof = found
        if proof in (None, known_proof) and (price_scale is None or scale is not None):
            return known_id, scale
    with conn.transaction():
        row = conn.execute(
            """
            INSERT INTO instruments AS i (venue, product_id, asset_class, price_scale, proof)
            VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (venue, product_id) DO UPDATE SET
                price_scale = coalesce(i.price_scale, excluded.price_scale), proof = coalesce(excluded.proof, i.proof)
            RETURNING instrument_id, price_scale
            """,
            (venue, product_id, asset_class, price_scale, proof),
        ).fetchone()
        assert row is not None  # inserted or updated
        conn.execute("INSERT INTO trade_coverage (instrument_id) VALUES (%s) ON CONFLICT DO NOTHING", row[:1])
    return int(row[0]), row[1]


def instrument_id(conn: Connection, venue: str, product_id: str, asset_class: str, proof: str | None) -> int:
    """Return the id of an instrument, see `instrument`."""
    return instrument(conn, venue, product_id, asset_class, proof)[0]

"""The message formats: any Avro client reads what numpy wrote, and the other way round."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from pipeline.core.errors import BadData
from schemas.columns import COLUMNS, decode_quote_hour, encode_quote_hour
from schemas.records import SCHEMAS, CandleRow, Hole, HourHeader, Quorum, Quote, TickerMessage, TradeRow
from tests.messages import T0_US, hour_bytes

HEADER = HourHeader(
    venue="dukascopy",
    product_id="EUR-USD",
    asset_class="forex",
    origin="history",
    received_at_us=T0_US,
    hour_start_us=T0_US,
    status="ticks",
    feed="json",
    fetched_at_us=T0_US,
    price_scale=5,
    size_scale=2,
)


def up_to(length: int) -> Any:
    """Rows of five numbers whose varints have at most `length` bytes."""
    bound = min(1 << 7 * length - 1, 1 << 63)
    number = st.integers(-bound, bound - 1)
    return st.lists(st.tuples(*[number] * 5), max_size=30)


@given(st.integers(1, 10).flatmap(up_to))
def test_numpy_writes_the_bytes_that_any_avro_encoder_writes(rows: list[Any]) -> None:
    columns = [np.array([row[i] for row in rows], dtype=np.int64) for i in range(5)]
    data = encode_quote_hour(HEADER, *columns)
    record = schemas.decode("quotes", data)
    assert {name: record[name] for name in COLUMNS} == {
        name: column.tolist() for name, column in zip(COLUMNS, columns, strict=True)
    }
    assert schemas.encode("quotes", record) == data
    back = decode_quote_hour(data)
    assert all((getattr(back, name) == column).all() for name, column in zip(COLUMNS, columns, strict=True))


@pytest.mark.parametrize("length", range(1, 11))
def test_the_smallest_and_the_largest_number_of_each_length(length: int) -> None:
    """Varints up to 4 bytes, up to 8 and beyond go three ways; their borders are where one fails."""
    low, high = (1 << 7 * (length - 1)) >> 1, min((1 << 7 * length) >> 1, 1 << 63) - 1
    column = np.array([low, high, -low, -high - 1, 0], dtype=np.int64)
    data = encode_quote_hour(HEADER, *[column] * 5)
    assert schemas.encode("quotes", schemas.decode("quotes", data)) == data
    assert decode_quote_hour(data).ask_size.tolist() == column.tolist() == schemas.decode("quotes", data)["bid"]


def test_arrays_of_several_blocks_are_read_too() -> None:
    """Other encoders may split an array; the specification allows it."""
    data = hour_bytes([1, 2, 3], [10, 11, 12])
    one_block = bytes([6, 2, 4, 6, 0])  # count 3: 1, 2, 3, end
    two_blocks = bytes([4, 2, 4, 2, 6, 0])  # count 2: 1, 2; count 1: 3, end
    assert data.count(one_block) == 1
    assert decode_quote_hour(data.replace(one_block, two_blocks)).offset_ms.tolist() == [1, 2, 3]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_avro_are_bad_data_and_nothing_else(data: bytes) -> None:
    """Any other exception would end the writer."""
    with pytest.raises(BadData):
        decode_quote_hour(data)


@given(st.integers(0, 10**9), st.integers(0, 400))
def test_a_cut_hour_is_bad_data(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    whole = hour_bytes(sorted(rng.integers(0, 3_600_000, 50).tolist()), rng.integers(1, 200_000, 50).tolist())
    with pytest.raises(BadData):
        decode_quote_hour(whole[: -1 - cut])


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_schema_documents_itself_and_uses_the_field_names_that_carry_units(name: str) -> None:
    definition = schemas.definition(name)
    assert definition["doc"]
    times = [f["name"] for f in definition["fields"] if re.search(r"time|_at|hour|bucket|since|_from|_to", f["name"])]
    assert all(t.endswith("_us") or t == "timestamp_is_received" for t in times), times


def elements(name: str, field: str) -> Any:
    """The record that an array or a union of a schema holds."""
    (kind,) = (one["type"] for one in schemas.definition(name)["fields"] if one["name"] == field)
    return kind[1] if isinstance(kind, list) else kind["items"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *((kind, schemas.definition(name)["fields"]) for kind, name in SCHEMAS.items()),
        (TradeRow, elements("trades", "trades")["fields"]),
        (Hole, elements("trades", "holes")["fields"]),
        (CandleRow, elements("candles", "candles")["fields"]),
        (Quorum, elements("candles", "quorum")["fields"]),
        (HourHeader, [one for one in schemas.definition("quotes")["fields"] if one["name"] not in COLUMNS]),
    ],
)
def test_a_type_has_the_fields_of_its_schema(kind: Any, fields: list[dict[str, Any]]) -> None:
    """A field that one of the two lacks would be lost between a parser and the table, without an error."""
    assert list(kind.__struct_fields__) == [one["name"] for one in fields]


def test_a_quote_has_only_fields_of_a_ticker() -> None:
    """The publisher hands them on by name."""
    assert set(Quote.__struct_fields__) < set(TickerMessage.__struct_fields__)

"""Hours of quotes and tickers into the database. No broker here."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from pipeline.core.errors import BadData
from pipeline.verify import verify
from tests.messages import T0_US, TOPIC, hour_bytes, received, store, ticker_record

HOUR = 3_600_000_000


def put(conn: Any, *hours: bytes, kind: Hours | None = None) -> tuple[int, list[Any]]:
    return store(kind or Hours(), conn, [received("quotes", hour) for hour in hours])


def proven(conn: Any) -> list[str]:
    return [text for verdict in verify(conn) for text in verdict.wrong]


def hours(conn: Any) -> list[Any]:
    return conn.execute("SELECT state::text, ticks, feed, revision FROM quote_hours ORDER BY hour").fetchall()


def bids(conn: Any) -> list[str]:
    return [row[0] for row in conn.execute("SELECT bid::text FROM quotes ORDER BY ts, seq")]


A = {"offset_ms": [0, 0, 59_999, 60_000], "bid": [114543, 114544, 114500, 114600]}
B = {"offset_ms": [5, 3_599_999], "bid": [114000, 114001]}


def test_an_hour_again_changes_nothing(conn: Any) -> None:
    assert put(conn, hour_bytes(**A)) == (4, [])
    assert put(conn, hour_bytes(**A), hour_bytes(**A)) == (0, [])
    assert bids(conn) == ["1.14543", "1.14544", "1.14500", "1.14600"]
    assert conn.execute("SELECT seq FROM quotes ORDER BY ts, seq").fetchall() == [(0,), (1,), (0,), (0,)]
    minutes = conn.execute("SELECT open::text, high::text, low::text, close::text, ticks FROM candles_1m").fetchall()
    assert minutes == [("1.14543", "1.14544", "1.14500", "1.14500", 3), ("1.14600", "1.14600", "1.14600", "1.14600", 1)]
    assert proven(conn) == []


def test_a_correction_replaces_rows_and_candles_and_an_older_message_never_undoes_it(conn: Any) -> None:
    put(conn, hour_bytes(**A))
    assert put(conn, hour_bytes(**B, fetched_at_us=T0_US + 1))[0] == 2
    assert hours(conn) == [("present", 2, "bi5", 1)]
    assert put(conn, hour_bytes(**A)) == (0, [])
    assert bids(conn) == ["1.14000", "1.14001"]
    assert proven(conn) == []


def test_the_finished_hour_replaces_the_running_one(conn: Any) -> None:
    put(conn, hour_bytes(**B, status="partial", fetched_at_us=T0_US + 9))
    assert hours(conn) == [("partial", 2, "bi5", 0)]
    put(conn, hour_bytes(**A, fetched_at_us=T0_US))
    put(conn, hour_bytes(**B, status="partial", fetched_at_us=T0_US + 9))
    assert hours(conn) == [("present", 4, "bi5", 0)]
    assert proven(conn) == []


def look(conn: Any, minutes: int, *, sure: bool = False) -> None:
    """The loader has asked the vendor for the hour of T0 twice, so far apart."""
    conn.execute(
        "INSERT INTO quote_looks SELECT instrument_id, to_timestamp(%s), now() - make_interval(mins => %s), now(), %s"
        " FROM instruments",
        (T0_US / 1e6, minutes, sure),
    )


def test_emptiness_is_seen_then_confirmed_and_never_beats_quotes(conn: Any) -> None:
    put(conn, hour_bytes([], [], final=False))
    put(conn, hour_bytes([], [], final=False, fetched_at_us=T0_US + 5))
    first_seen = conn.execute("SELECT state::text, extract(epoch FROM fetched_at)::bigint FROM quote_hours").fetchone()
    assert first_seen == ("seen_empty", T0_US // 1_000_000)
    put(conn, hour_bytes([], [], fetched_at_us=T0_US + 50 * HOUR))
    assert hours(conn) == [("seen_empty", 0, "bi5", 0)], "seen a moment ago, by the database's clock"
    conn.execute("UPDATE quote_hours SET stored_at = stored_at - INTERVAL '11 minutes'")
    put(conn, hour_bytes([], [], fetched_at_us=T0_US + 50 * HOUR))
    assert hours(conn) == [("seen_empty", 0, "bi5", 0)], "nobody has looked"
    look(conn, 11)
    put(conn, hour_bytes([], [], fetched_at_us=T0_US + 20 * HOUR))
    assert hours(conn) == [("seen_empty", 0, "bi5", 0)], "too young: it may still be published"
    put(conn, hour_bytes([], [], fetched_at_us=T0_US + 50 * HOUR))
    assert hours(conn) == [("confirmed_empty", 0, "bi5", 0)]
    put(conn, hour_bytes(**A, fetched_at_us=T0_US + 7))
    put(conn, hour_bytes([], [], fetched_at_us=T0_US + 60 * HOUR))
    assert hours(conn) == [("present", 4, "bi5", 0)]
    assert proven(conn) == []


SATURDAY_US = T0_US // (24 * HOUR) * 24 * HOUR + 4 * 24 * HOUR + 12 * HOUR  # T0 is a Tuesday


@pytest.mark.parametrize(
    ("product", "asset_class", "hour_us", "state"),
    [
        ("EUR-USD", "forex", SATURDAY_US, "closed"),
        ("EUR-USD", "forex", T0_US, "seen_empty"),
        ("BTC-USD", "crypto", SATURDAY_US, "seen_empty"),
        ("XAU-USD", "metal", SATURDAY_US, "closed"),
        ("AAPLUS-USD", "stock", T0_US + 8 * HOUR, "closed"),  # the night of New York
        ("SAPDE-EUR", "stock", T0_US + 8 * HOUR, "seen_empty"),
        ("SAPDE-EUR", "stock", SATURDAY_US, "closed"),
    ],
)
def test_closed_is_what_the_week_says_and_not_what_a_message_says(
    conn: Any, product: str, asset_class: str, hour_us: int, state: str
) -> None:
    """Prevents hours of a trading day that messages explain away, however often."""
    topic = f"persistent://t/quotes/dukascopy.{product.lower()}"
    claim = {"product_id": product, "asset_class": asset_class, "hour_start_us": hour_us, "feed": "calendar"}
    store(Hours(), conn, [received("quotes", hour_bytes([], [], **claim), topic)])
    assert hours(conn) == [(state, 0, "calendar", 0)]
    conn.execute("UPDATE quote_hours SET stored_at = stored_at - INTERVAL '11 minutes'")
    store(Hours(), conn, [received("quotes", hour_bytes([], [], **claim, fetched_at_us=T0_US + HOUR), topic)])
    assert hours(conn)[0][0] == state


def test_an_empty_file_in_a_folder_is_final_at_once(conn: Any) -> None:
    """Prevents a load from a folder that never ends: the file will be empty tomorrow too."""
    put(conn, hour_bytes([], [], feed="folder"))
    assert hours(conn) == [("seen_empty", 0, "folder", 0)], "by the message's word alone"
    look(conn, 0, sure=True)
    put(conn, hour_bytes([], [], feed="folder"))
    assert hours(conn) == [("confirmed_empty", 0, "folder", 0)]


def test_sizes_of_the_json_feed_win_over_rounded_ones(conn: Any) -> None:
    put(conn, hour_bytes(**A, size=[1, 2, 3, 4]))
    put(conn, hour_bytes(**A, size=[10, 20, 30, 40], feed="json", fetched_at_us=T0_US + 1))
    put(conn, hour_bytes(**A, size=[1, 2, 3, 4], fetched_at_us=T0_US + 2))
    assert conn.execute("SELECT sum(bid_size)::int FROM quotes").fetchone() == (100,)
    assert proven(conn) == []


def test_bad_rows_of_an_hour_are_dead_letters_and_the_rest_is_stored(conn: Any) -> None:
    """The hour stays open until it is told so a second time: one look may have been a bad one."""
    odd = {"offset_ms": [1, 2, 3, 3_600_000, 4], "bid": [114543, -1, 114544, 114545, 1], "size": [1, 1, -5, 1, 1 << 62]}
    rows, letters = put(conn, hour_bytes(**odd))
    assert rows == 1
    found = sorted((letter.reason, letter.row) for letter in letters)
    assert found == [("price", 1), ("size", 2), ("size", 4), ("time", 3)]
    assert conn.execute("SELECT count(*) FROM holes").fetchone() == (0,)
    assert hours(conn) == [("partial", 1, "bi5", 0)]
    assert put(conn, hour_bytes(**odd, fetched_at_us=T0_US + HOUR))[0] == 0
    assert hours(conn) == [("partial", 1, "bi5", 0)], "told again at once"
    conn.execute("UPDATE quote_hours SET stored_at = stored_at - INTERVAL '11 minutes'")
    assert put(conn, hour_bytes(**odd, fetched_at_us=T0_US + HOUR))[0] == 1
    assert hours(conn) == [("present", 1, "bi5", 0)]
    assert proven(conn) == []


def test_a_scale_that_is_not_the_instruments_is_refused(conn: Any) -> None:
    """A wrong price scale is a silent factor of ten."""
    kind = Hours()
    put(conn, hour_bytes(**A), kind=kind)
    other = hour_bytes(**B, price_scale=4, hour_start_us=T0_US + HOUR)
    for again in (kind, Hours()):
        rows, letters = put(conn, other, kind=again)
        assert (rows, [letter.reason for letter in letters]) == (0, ["scale"])
    assert len(hours(conn)) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no avro at all", "schema"),
        (hour_bytes(**A)[:-3], "schema"),
        (hour_bytes(**A, product_id="GBP-USD"), "topic"),
        (hour_bytes(**A, hour_start_us=T0_US + 1), "time"),
        (hour_bytes(**A, hour_start_us=0), "time"),
        (hour_bytes(**A, hour_start_us=T0_US * 100 // HOUR * HOUR), "time"),
        (hour_bytes(**A, hour_start_us=4_000_000_000_000_000 // HOUR * HOUR), "time"),
        (hour_bytes(**A, fetched_at_us=4_000_000_000_000_000), "time"),
        (hour_bytes(**A, fetched_at_us=-1), "time"),
        (hour_bytes(**A, received_at_us=1 << 62), "time"),
        (hour_bytes(**A, feed="so\0me"), "feed"),
        (hour_bytes(**A, asset_class="fo\0rex"), "asset_class"),
        (hour_bytes(**A, size_scale=-3), "scale"),
        (hour_bytes([], [], status="ticks"), "status"),
        (hour_bytes(**A, price_scale=40), "scale"),
        (hour_bytes(**A, status="empty"), "status"),
    ],
)
def test_an_hour_that_is_none_is_refused_whole(data: bytes, reason: str) -> None:
    with pytest.raises(BadData) as refused:
        Hours().read(received("quotes", data, TOPIC["quotes"]))
    assert refused.value.reason == reason


PLAIN = hour_bytes(**A)
FIRST_BID = bytes([(114543 * 2) & 0x7F | 0x80, (114543 * 2) >> 7 & 0x7F | 0x80, (114543 * 2) >> 14])  # zigzag varint


@pytest.mark.parametrize("bit", range(8))
def test_a_changed_price_is_noticed(bit: int) -> None:
    """The checksum covers time, bid and ask: a flipped bit on the way never becomes a price."""
    broken = bytearray(PLAIN)
    broken[PLAIN.index(FIRST_BID)] ^= 1 << bit
    with pytest.raises(BadData):
        Hours().read(received("quotes", bytes(broken), TOPIC["quotes"]))


VERSIONS = [
    hour_bytes(**A),
    hour_bytes(**B, fetched_at_us=T0_US + 5),
    hour_bytes(**A, feed="json", fetched_at_us=T0_US + 3),
    hour_bytes(**A, status="partial", fetched_at_us=T0_US + 9),
    hour_bytes([], [], fetched_at_us=T0_US + 10),
    hour_bytes([], [], final=False, fetched_at_us=T0_US + 11),
]


def test_every_order_of_versions_ends_in_the_same_hour(database_url: str, conn: Any) -> None:
    for order in itertools.permutations(VERSIONS[:5], 5):
        for table in ("quotes", "quote_candle_1m", "quote_candle_1h", "quote_hours"):
            conn.execute("DELETE FROM " + table)
        kind = Hours()
        for version in order:
            put(conn, version, kind=kind)
        assert [h[:2] for h in hours(conn)] == [("present", 2)], order
        assert bids(conn) == ["1.14000", "1.14001"]
        assert proven(conn) == []


BAD = {"offset_ms": [0, 1000, 2000], "bid": [110000, 0, 110002]}  # the second row is refused


def test_batches_of_good_and_bad_versions_end_in_the_same_hour(conn: Any) -> None:
    """Prevents a later version with a refused row from taking the place of a clean one that came with it."""
    good = hour_bytes(**B, fetched_at_us=T0_US + 1)
    bad = hour_bytes(**BAD, fetched_at_us=T0_US + 2)
    worse = hour_bytes(**BAD, size=[1, 1, -5], fetched_at_us=T0_US + 3)
    running = hour_bytes(**A, status="partial", fetched_at_us=T0_US + 4)
    for versions, state in (((good, bad, worse, running), ("present", 2)), ((bad, worse, running), ("partial", 4))):
        for order in itertools.permutations(versions):
            for first, second in itertools.combinations_with_replacement(range(1, len(order) + 1), 2):
                for table in ("quotes", "quote_candle_1m", "quote_candle_1h", "quote_hours"):
                    conn.execute("DELETE FROM " + table)
                for batch in (order[:first], order[first:second], order[second:]):
                    if batch:
                        put(conn, *batch)
                assert [hour[:2] for hour in hours(conn)] == [state], (order, first, second)
                assert len(bids(conn)) == state[1]


TICKERS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(1, 99)), min_size=1, max_size=40)


@given(TICKERS, st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tickers_in_any_order_and_number_give_the_same_candles(conn: Any, made: Any, rng: Any, batches: int) -> None:
    for table in ("quotes", "quote_candle_1m", "quote_candle_1h"):
        conn.execute("DELETE FROM " + table)
    unique = {(at, seq): ticker_record(T0_US + at * 7_000_000, seq, str(bid), str(bid + 1)) for at, seq, bid in made}
    messages = [*unique.values()] * 2
    rng.shuffle(messages)
    for i in range(batches):
        store(Tickers(), conn, [received("ticker", m) for m in messages[i::batches]])
    assert bids(conn) == [unique[key]["bid"] for key in sorted(unique)]
    assert proven(conn) == []


def test_a_bad_ticker_is_a_dead_letter_and_missed_time_is_listed(conn: Any) -> None:
    good = ticker_record(T0_US + 60_000_000, missed_since_us=T0_US)
    rows, letters = store(Tickers(), conn, [received("ticker", good), received("ticker", ticker_record(bid="NaN"))])
    assert (rows, [letter.reason for letter in letters]) == (1, ["price"])
    assert conn.execute("SELECT reason, to_ts - from_ts = '1 minute'::interval FROM holes").fetchall() == [
        ("not_listening", True)
    ]


def test_time_missed_between_two_processes_is_listed(conn: Any) -> None:
    """A restarted producer does not know when the last one ended; the rows do."""
    first, later = ticker_record(T0_US, missed_since_us=0), ticker_record(T0_US + 90_000_000, missed_since_us=0)
    store(Tickers(), conn, [received("ticker", first)])
    assert conn.execute("SELECT count(*) FROM holes").fetchone() == (0,), "nothing was stored before"
    for _ in range(2):
        store(Tickers(), conn, [received("ticker", later)])
    assert conn.execute("SELECT reason, extract(epoch FROM to_ts - from_ts)::int FROM holes").fetchall() == [
        ("not_listening", 90)
    ]

"""OANDA's candles by REST (developer.oanda.com, "v20 REST API: Instrument Endpoints").

`GET /v3/instruments/EUR_USD/candles?price=M&granularity=H1&from=2017-01-03T00:00:00Z&count=5000`, oldest first and
including the running one; there is no candle for an interval without prices::

    {"instrument":"EUR_USD","granularity":"H1","candles":[{"complete":true,"volume":481,
     "time":"2017-01-03T00:00:00.000000000Z","mid":{"o":"1.04577","h":"1.04712","l":"1.04572","c":"1.04662"}},...]}

`volume` is the number of prices; there is no traded size. Prices are the mid of bid and ask. The list of instruments is
`GET /v3/accounts/<account>/instruments`: `{"instruments":[{"name":"EUR_USD","type":"CURRENCY",...},...]}`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

from pipeline.core.errors import BadData, Refused, WrongAnswer, WrongUse
from pipeline.core.times import iso_to_us, us_to_iso
from venues.candle_source import GivenCandles, Units
from venues.events import READING, parse_frame, parse_json
from venues.oanda.settings import OandaSettings, authorization
from venues.oanda.symbols import instrument_of
from venues.rest.client import Client

PAGE = 5000  # at most; more is refused
GRANULARITIES = {
    **{60 * minutes: f"M{minutes}" for minutes in (1, 2, 4, 5, 10, 15, 30)},
    **{3600 * hours: f"H{hours}" for hours in (1, 2, 3, 4, 6, 8, 12)},
    86_400: "D",
    604_800: "W",
}
# Days and weeks begin as ours do; by default the venue's begin at 17:00 in New York.
ALIGNED: dict[str, str | int] = {"dailyAlignment": 0, "alignmentTimezone": "UTC", "weeklyAlignment": "Monday"}


class OandaCandles:
    """Implements `venues.candle_source.CandleSource`. Raises what `venues.rest.client.Client.ask` raises."""

    page_size = PAGE

    def __init__(self, settings: OandaSettings, stop: threading.Event) -> None:
        self._client = Client("oanda", settings.rest_url, stop, headers=authorization(settings))
        self._account = settings.account
        self._instruments: set[str] = set()
        self.calls_per_s = settings.rest_rate

    def granularities(self) -> Collection[int]:
        return GRANULARITIES.keys()

    def load(self) -> None:
        """See `CandleSource`. Raises `WrongUse` if the venue refuses the token or the account."""
        try:
            body = self._client.ask(f"v3/accounts/{self._account}/instruments", {}).body
        except Refused as error:
            raise WrongUse(f"OANDA refuses the account; correct OANDA_TOKEN or OANDA_ACCOUNT ({error}).") from None
        try:
            self._instruments = {str(one["name"]) for one in parse_json(body)["instruments"]}
        except READING as error:
            raise WrongAnswer(f"OANDA's list of instruments cannot be read: {type(error).__name__}") from None

    @property
    def loaded(self) -> bool:
        return bool(self._instruments)

    def lists(self, product_id: str) -> bool:
        return instrument_of(product_id) in self._instruments

    def units(self, product_id: str) -> Units:
        return Units()  # prices are exact decimals as text, so no step size is needed

    def fetch(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> GivenCandles:
        instrument, granularity = instrument_of(product_id), GRANULARITIES[granularity_s]
        params: dict[str, str | int] = {
            "price": "M",
            "granularity": granularity,
            "from": us_to_iso(since_us),
            "count": min(limit, PAGE),
        }
        answer = self._client.ask(f"v3/instruments/{instrument}/candles", {**params, **ALIGNED})
        return read_candles(answer.body, instrument, granularity, answer.headers.get("Date"))


def read_candles(body: bytes, instrument: str, granularity: str, date: str | None) -> GivenCandles:
    """Parse an answer; a malformed candle is paired with its error. `date`: the answer's `Date` header.

    Raises `WrongAnswer` if the answer is about another instrument or granularity, or cannot be parsed.
    """
    try:
        message = parse_frame(body)
        given, candles = (message["instrument"], message["granularity"]), list(message["candles"])
    except READING as error:
        raise WrongAnswer(f"OANDA's candles cannot be read: {type(error).__name__}: {error}"[:300]) from None
    if given != (instrument, granularity):
        raise WrongAnswer(f"OANDA gave candles of {str(given)[:100]}, not of {instrument} {granularity}")
    pairs: list[tuple[Any, Any]] = []
    running: list[int] = []
    for candle in candles:
        try:
            at_us, mid = iso_to_us(candle["time"]), candle["mid"]
            if type(candle["complete"]) is not bool:
                raise BadData("shape", "`complete` is neither true nor false")
            if not candle["complete"]:
                running.append(at_us)
            pairs.append(([at_us // 1000, mid["o"], mid["h"], mid["l"], mid["c"], candle["volume"]], candle))
        except READING as error:
            pairs.append((error, candle))
    return GivenCandles(pairs, date, min(running, default=None))

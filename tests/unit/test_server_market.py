"""The market's table without a broker: what its columns say, what is made anew and what is kept, and how it is answered."""

import asyncio
import gzip
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from fastapi import FastAPI

from klinestream.market.errors import BrokerError
from klinestream.market.intervals import DAY_MS, INTERVALS, MINUTE_MS
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from server.candles.rows import decode_candles, decode_indicators
from server.candles.store import CandleStore
from server.rest.docs import CANDLE, INDICATOR, WINDOW
from server.rest.kept import Kept
from server.rest.market_table import LINE_STEPS, Days, Listing, line_columns, market_columns, rsi_columns
from server.rest.symbols import overview

DAY_START_MS = 1_790_000_000_000 // DAY_MS * DAY_MS
NOW_MS = DAY_START_MS + DAY_MS + 61_500
"""A minute and a half after the second midnight."""


def candle(opened_ms: int, interval: str = "5m", symbol: str = "BTCUSDT", **fields: Any) -> bytes:
    """A candle that opens at 100 and trades one coin for 100.5 in a minute."""
    length_ms = INTERVALS[interval]
    minutes = length_ms // MINUTE_MS
    prices = {"o": "100.00000000", "h": "103.00000000", "l": "99.00000000", "c": "101.00000000"}
    told = prices | {"v": f"{minutes}.00000000", "q": f"{100 * minutes + minutes // 2}.00000001"}
    return orjson.dumps(CANDLE | told | {"s": symbol, "i": interval, "t": opened_ms, "T": opened_ms + length_ms - 1} | fields)


def put(store: CandleStore, *candles: bytes) -> None:
    found = decode_candles(candles, NOW_MS)
    assert found.rejected == 0
    store.candles.put(found.series, found.rows)


def day(store: CandleStore, **fields: Any) -> None:
    """All five minutes from the day's start to its end, and the minute after them."""
    put(store, *(candle(opened_ms, **fields) for opened_ms in range(DAY_START_MS, DAY_START_MS + DAY_MS, INTERVALS["5m"])))
    put(store, candle(DAY_START_MS + DAY_MS, "1m"))


def window(symbol: str = "BTCUSDT", close: float = 102.0, end_ms: int = NOW_MS) -> bytes:
    return orjson.dumps(WINDOW | {"symbol": symbol, "close": close, "window_end": end_ms})


def columns(store: CandleStore, *windows: bytes, days: Days | None = None) -> dict[str, Any]:
    """The columns, each as its only symbol's value."""
    newest = {orjson.loads(each)["symbol"]: each for each in windows}
    return {name: column[0] for name, column in market_columns(newest, store, days or Days(store), Listing()).items()}


def test_the_day_is_summed_from_the_candle_that_the_change_begins_with() -> None:
    """24 hours and up to five minutes more, then the minutes after the last five; each second once, exactly."""
    store = CandleStore(500)
    day(store)
    told = columns(store, window())
    assert (told["symbol"], told["quote"], told["price"], told["time"]) == ("BTCUSDT", "USDT", 102.0, NOW_MS)
    assert told["volume_24h"] == 24 * 60 + 1
    # 288 candles of 5 minutes with 502.00000001 each, and a minute with 100.00000001: exact before it is rounded.
    assert told["quote_volume_24h"] == 288 * 502 + 100
    assert told["whole_24h"] is True
    assert told["change_24h_percent"] == 2.0


def test_price_and_change_are_those_of_the_symbols_route() -> None:
    """One definition: the same price, time and change."""
    store = CandleStore(500)
    day(store, o="99.37000000")
    told = columns(store, window())
    [symbol] = overview({"BTCUSDT": window()}, store, NOW_MS)
    assert (told["price"], told["time"]) == (symbol["price"], symbol["time"])
    assert told["change_24h_percent"] == round(symbol["change_24h_percent"], 4) == 2.6467


def test_low_and_high_hold_the_price_that_is_newer_than_the_candles() -> None:
    """The range of closed minutes, widened by the price where it has left it."""
    store = CandleStore(500)
    day(store)
    assert [columns(store, window(close=price))["low_24h"] for price in (102.0, 98.5)] == [99.0, 98.5]
    assert [columns(store, window(close=price))["high_24h"] for price in (102.0, 104.5)] == [103.0, 104.5]


@pytest.mark.parametrize(
    ("spoil", "end_ms"),
    [
        ("hole", NOW_MS),
        ("incomplete", NOW_MS),
        ("late", NOW_MS + 2 * MINUTE_MS),
    ],
)
def test_a_day_that_lacks_something_says_so(spoil: str, end_ms: int) -> None:
    """A candle that is missing, or lacks seconds, or minutes that have not come."""
    store = CandleStore(500)
    day(store)
    if spoil == "hole":
        store = CandleStore(500)
        put(store, *(candle(t) for t in range(DAY_START_MS, DAY_START_MS + DAY_MS, INTERVALS["5m"]) if t != DAY_START_MS + 10 * 300_000))
        put(store, candle(DAY_START_MS + DAY_MS, "1m"))
    elif spoil == "incomplete":
        put(store, candle(DAY_START_MS + 300_000, complete=False, revision=1))
    told = columns(store, window(end_ms=end_ms))
    assert told["whole_24h"] is False
    assert told["volume_24h"] >= 24 * 60 - 5


def test_what_is_not_known_is_null() -> None:
    """A symbol without candles, and one whose candles don't reach back a day."""
    store = CandleStore(500)
    put(store, candle(DAY_START_MS + DAY_MS, "1m", "NEWUSDT"))
    told = market_columns({"BTCUSDT": window()}, store, Days(store), Listing())
    assert told["symbol"] == ["BTCUSDT", "NEWUSDT"]
    assert told["price"] == [102.0, 101.0]
    assert told["time"] == [NOW_MS, DAY_START_MS + DAY_MS + MINUTE_MS]
    for name in ("change_24h_percent", "low_24h", "high_24h", "volume_24h", "quote_volume_24h", "whole_24h"):
        assert told[name] == [None, None]
    assert rsi_columns(told["symbol"], "1h", store) == {"rsi": [None, None], "rsi_ready": [None, None], "rsi_time": [None, None]}


def test_a_quote_asset_that_several_fit_is_told_by_the_other_symbols() -> None:
    """The one that leaves a base which others have; else the longest; and it is worked out anew when symbols come."""
    listing = Listing()
    assert listing.quotes(["ADAEUR", "ADAUSDT", "BTCTUSD"]) == ["EUR", "USDT", "TUSD"]
    assert listing.quotes(["ADAEUR"]) == ["AEUR"]


def test_a_day_is_made_anew_when_its_candles_change() -> None:
    """Not before: while nothing comes the very same is given; a further minute, a correction, and another beginning count at once."""
    store = CandleStore(500)
    day(store)
    days = Days(store)

    def now(end_ms: int = NOW_MS) -> Any:
        return days.of_all(["BTCUSDT"], [end_ms])[0]

    first = now()
    assert now(NOW_MS + 500) is first
    put(store, candle(DAY_START_MS + DAY_MS + MINUTE_MS, "1m"))
    assert now().volume == first.volume + 1
    put(store, candle(DAY_START_MS + 300_000, v="50.00000000", revision=2))
    assert now().volume == first.volume + 1 + 45
    assert now(NOW_MS + 5 * MINUTE_MS).volume == first.volume + 1 + 45 - 5
    assert days.of_all(["ETHUSDT"], [None]) == [None]


def test_a_day_is_there_as_soon_as_its_candles_are() -> None:
    """Though nothing was known before, and the symbol's time stands still."""
    store = CandleStore(500)
    days = Days(store)
    assert days.of_all(["BTCUSDT"], [NOW_MS]) == [None]
    day(store)
    [known] = days.of_all(["BTCUSDT"], [NOW_MS])
    assert known is not None
    assert known.volume == 24 * 60 + 1


def test_the_rsi_is_that_of_the_newest_closed_candle() -> None:
    """With the end of that candle; ready unless the record says otherwise; none where it has no value."""
    store = CandleStore(500)
    found = decode_indicators(
        [
            indicator("AUSDT", 0, {"rsi_14": 20.0, "sma_50": 1.0}),
            indicator("AUSDT", 1, {"rsi_14": 71.23456, "sma_50": None}, "sma_50"),
            indicator("BUSDT", 1, {"rsi_14": 40.0}, "rsi_14"),
            indicator("CUSDT", 1, {"rsi_14": None}, "rsi_14"),
        ],
        NOW_MS,
        store.names,
    )
    store.indicators.put(found.series, found.rows)
    assert rsi_columns(["AUSDT", "BUSDT", "CUSDT", "DUSDT"], "1h", store) == {
        "rsi": [71.2346, 40.0, None, None],
        "rsi_ready": [True, False, None, None],
        "rsi_time": [DAY_START_MS + 2 * INTERVALS["1h"], DAY_START_MS + 2 * INTERVALS["1h"], None, None],
    }


def indicator(symbol: str, hour: int, values: dict[str, float | None], *unready: str) -> bytes:
    opened_ms = DAY_START_MS + hour * INTERVALS["1h"]
    key = {"s": symbol, "i": "1h", "t": opened_ms, "T": opened_ms + INTERVALS["1h"] - 1}
    return orjson.dumps(INDICATOR | key | {"values": values, "unready": list(unready)})


def test_a_line_is_a_day_of_half_hours_in_its_own_range() -> None:
    """From the least to the greatest close; a half hour that is not there is none; where all are equal they are in the middle."""
    store = CandleStore(500)
    first_ms = NOW_MS // INTERVALS["30m"] * INTERVALS["30m"] - LINE_STEPS * INTERVALS["30m"]
    for place, price in ((-1, "90"), (0, "100"), (1, "101"), (3, "102"), (47, "101")):
        prices = {"h": "200.00000000", "l": "1.00000000", "c": f"{price}.00000000"}
        put(store, candle(first_ms + place * INTERVALS["30m"], "30m", **prices))
    put(store, candle(first_ms, "30m", "AUSDT"), *(candle(first_ms + t * INTERVALS["30m"], "30m", "FLATUSDT") for t in range(2)))
    begin_ms, told = line_columns(["AUSDT", "BTCUSDT", "FLATUSDT", "NONE"], NOW_MS, store)
    alone, line, flat, none = told["line"]
    assert begin_ms == first_ms
    assert (alone, none) == ([50, *[None] * 47], None)
    assert line == [0, 50, None, 100, *[None] * 43, 50]
    assert flat == [50, 50, *[None] * 46]


def test_lines_of_great_prices_do_not_overflow() -> None:
    """A price of billions times a hundred is more than 64 bits of 1e-8 hold."""
    store = CandleStore(500)
    first_ms = NOW_MS // INTERVALS["30m"] * INTERVALS["30m"] - LINE_STEPS * INTERVALS["30m"]
    for place, price in ((0, 1_500_000_000), (1, 3_000_000_000)):
        prices = dict.fromkeys("ohlc", f"{price}.00000000")
        put(store, candle(first_ms + place * INTERVALS["30m"], "30m", **prices))
    assert line_columns(["BTCUSDT"], NOW_MS, store)[1]["line"][0][:2] == [0, 100]


def test_candles_of_yesterday_are_let_go() -> None:
    """A day that nobody asks for again does not keep what the store has replaced."""
    store = CandleStore(500)
    day(store)
    days = Days(store)
    days.of_all(["BTCUSDT"], [NOW_MS])
    held = days._held["BTCUSDT"].sources
    put(store, candle(DAY_START_MS + 300_000, revision=2), candle(DAY_START_MS + DAY_MS + MINUTE_MS, "1m"))
    assert [source() for _, source in held] == [None, None]


def test_what_is_asked_for_at_once_is_made_once() -> None:
    """However many ask; for as long as it is kept; and one who goes away does not end it for the others."""
    made = 0
    now_s = 0.0

    async def make() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return made

    async def run() -> list[int]:
        nonlocal now_s
        kept = Kept(make, 1.0, lambda: now_s)
        leaves = asyncio.ensure_future(kept.get())
        await asyncio.sleep(0)
        leaves.cancel()
        found = [*await asyncio.gather(kept.get(), kept.get()), await kept.get()]
        now_s = 1.0
        return [*found, await kept.get()]

    assert asyncio.run(run()) == [1, 1, 1, 2]


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


def ask(server: FastAPI, *requests: tuple[str, dict[str, str]]) -> list[httpx.Response]:
    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://here") as client:
            return [await client.get(path, headers=headers) for path, headers in requests]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("path", ["/api/v1/market?interval=5m", "/api/v1/market/lines"])
def test_who_has_it_already_gets_nothing(path: str) -> None:
    """The tag goes with the data: 304 until that changes, whatever the time. Packed and plain are the same."""
    times = iter(range(NOW_MS, NOW_MS + 1000))
    server = create_app(ServerConfig(), no_reader, lambda: next(times))
    [packed, plain] = ask(server, (path, {}), (path, {"accept-encoding": "identity"}))
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json() == orjson.loads(gzip.decompress(gzip.compress(plain.content)))
    assert {packed.headers["vary"], plain.headers["vary"]} == {"accept-encoding"}
    tag = packed.headers["etag"]
    later = create_app(ServerConfig(), no_reader, lambda: NOW_MS + 100)
    [same, other] = ask(later, (path, {"if-none-match": tag}), (path, {"if-none-match": 'W/"other"'}))
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (other.status_code, other.headers["etag"]) == (200, tag)


def test_nothing_is_known_before_anything_is_read() -> None:
    """An empty table that says what it waits for, rather than a fault."""
    [answer] = ask(create_app(ServerConfig(stale_after_s=3), no_reader, lambda: NOW_MS), ("/api/v1/market", {}))
    told = answer.json()
    head = {"server_time": NOW_MS, "interval": "1h", "rsi_name": None, "candles_read": False, "stale_after_ms": 3000}
    assert {name: value for name, value in told.items() if not isinstance(value, list)} == head
    assert [value for value in told.values() if isinstance(value, list)] == [[]] * 13


@pytest.mark.parametrize("path", ["/api/v1/market?interval=2m", "/api/v1/market?symbol=BTCUSDT", "/api/v1/market/lines?interval=1m"])
def test_a_wrong_question_is_refused(path: str) -> None:
    """In the form of all routes."""
    [answer] = ask(create_app(ServerConfig(), no_reader, lambda: NOW_MS), (path, {}))
    assert answer.status_code == 422
    assert set(answer.json()["error"]) == {"status", "expected", "came", "do"}


def test_the_columns_are_those_that_the_document_names() -> None:
    """As many values in each, in the order of the symbols' names."""
    server = create_app(ServerConfig(), no_reader, lambda: NOW_MS)
    [document, market, lines] = ask(server, ("/api/openapi.json", {}), ("/api/v1/market", {}), ("/api/v1/market/lines", {}))
    for path, answer in (("/api/v1/market", market), ("/api/v1/market/lines", lines)):
        content = document.json()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        assert list(answer.json()) == content["schema"]["required"] == list(content["example"])
    assert np.all([value is not None for value in document.json()["paths"]["/api/v1/market"]["get"]["responses"]])

"""REST on a real broker: our own routes, and the exchange's own clients, unchanged, at our address."""

import asyncio
import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import orjson
import polars as pl
import pytest

from klinestream.client import frame as client_frame
from klinestream.market.decimals import show
from klinestream.market.events import Candle, Indicators, Signal, wire_fields
from klinestream.market.topics import CANDLES, INDICATORS, ORDER_BOOK, SIGNALS
from klinestream.runtime import config as configuration
from klinestream.runtime.kafka import Record
from tests.books import book_at, book_record
from tests.candles import best, rows
from tests.eventually import eventually
from tests.integration.rest_server import SYMBOLS, Market, published
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at
from tests.stack import TestBroker
from tests.topics import Topic, publish

with warnings.catch_warnings():
    # It imports names that websockets has deprecated.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*websockets.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*WebSocketClientProtocol.*")
    from binance import AsyncClient, BinanceAPIException, Client

WAIT_S = 20.0
DOCS = Path(__file__).parents[2] / "docs" / "rest.md"
MINUTE_MS = 60_000
SYMBOL = SYMBOLS[0]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*websockets.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def market(module_broker: TestBroker) -> Market:
    settings = configuration.Config(
        candles={"history": 20},  # type: ignore[arg-type]  # pydantic makes the section of it
        # A short RSI has converged within the hour.
        indicators={"rsi": (3, 14)},  # type: ignore[arg-type]
        signals={"rsi_period": 3, "rsi_low": 49.0, "rsi_high": 51.0, "hysteresis": 0.5},  # type: ignore[arg-type]
    )
    publish(module_broker.bootstrap_servers, [book_record(book_at(SYMBOL, now_ms() - 1000 * age)) for age in range(9, -1, -1)])
    return published(module_broker.bootstrap_servers, settings)


@pytest.fixture(scope="module")
def server(module_broker: TestBroker, market: Market, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    assert market.records  # published before the server starts
    windows = Windows(module_broker.bootstrap_servers)
    windows.publish([window_at(SYMBOL, end, now_ms() - 60_000) for end in ends_between(now_ms() - 5000, now_ms())])
    windows.close()
    started = ServerProcess(
        module_broker.bootstrap_servers,
        tmp_path_factory.mktemp("rest") / "server.log",
        requests_per_s=500,
        history_candles=60,
        history_s=600,
    )
    started.start()
    eventually(lambda: started.http.get("/api/v1/status").json()["candles"]["complete"], WAIT_S, "the candles are read")
    eventually(lambda: started.http.get("/api/v1/status").json()["books"]["caught_up"], WAIT_S, "the order books are read")
    yield started
    started.close()


def get(server: ServerProcess, path: str, **params: object) -> Any:
    """The answer's JSON."""
    answer = server.http.get(path, params={name.removesuffix("_"): str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def of_topic(market: Market, topic: str, interval: str) -> list[Any]:
    """The records of a symbol that count, oldest first."""
    found = [orjson.loads(value) for key, value in best(market.records, topic).items() if key[:2] == (SYMBOL, interval)]
    return sorted(found, key=lambda record: record["t"])


def row_in_progress(market: Market, length_ms: int) -> list[Any]:
    """The candle in progress by plain sums."""
    opened = market.klines[SYMBOL][-1].open_time_ms // length_ms * length_ms
    part = [k for k in market.klines[SYMBOL] if k.open_time_ms >= opened]
    prices = (part[0].open, max(k.high for k in part), min(k.low for k in part), part[-1].close)
    names = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
    base, quote, *takers = (show(sum(getattr(k, name) for k in part)) for name in names)
    return [opened, *map(show, prices), base, opened + length_ms - 1, quote, sum(k.trades for k in part), *takers, "0"]


def expected_rows(market: Market, interval_ms: int) -> list[list[Any]]:
    """Closed candles as the exchange gives them, by plain sums: those that the server keeps."""
    return [[*row, "0"] for row in rows(market.klines[SYMBOL], interval_ms)][-60:]


def test_candles_and_indicators_are_the_records_of_their_topics(server: ServerProcess, market: Market) -> None:
    """Field for field, the newest 60 of each symbol and interval, oldest first."""
    for interval, (topic, name) in itertools.product(("1m", "5m", "1h"), ((CANDLES.name, "candles"), (INDICATORS.name, "indicators"))):
        answer = get(server, f"/api/v1/{name}", symbol=SYMBOL, interval=interval)
        assert answer[name] == of_topic(market, topic, interval)[-60:]
        assert (answer["symbol"], answer["interval"], answer["more"]) == (SYMBOL, interval, False)
    assert len(get(server, "/api/v1/candles", symbol=SYMBOL, interval="1m")["candles"]) == 60


def test_signals_are_the_records_of_their_topic(server: ServerProcess, market: Market) -> None:
    """One of each id, those of all intervals together in order of time."""
    right = [orjson.loads(value) for key, value in best(market.records, SIGNALS.name).items() if key[0] == SYMBOL]
    answer = get(server, "/api/v1/signals", symbol=SYMBOL)["signals"]
    assert sorted(answer, key=lambda signal: signal["id"]) == sorted(right, key=lambda signal: signal["id"])
    assert [signal["t"] for signal in answer] == sorted(signal["t"] for signal in right)
    assert right
    assert get(server, "/api/v1/signals", symbol=SYMBOL, interval="1d")["signals"] == []


def test_pages_by_time_hold_all_candles_once(server: ServerProcess, market: Market) -> None:
    """From the oldest on, page by page, until `more` is false; `to` is exclusive."""
    right = of_topic(market, CANDLES.name, "1m")[-60:]
    found: list[Any] = []
    more, begin = True, market.start_ms
    while more:
        page = get(server, "/api/v1/candles", symbol=SYMBOL, interval="1m", from_=begin, limit=25)
        more, begin = page["more"], page["candles"][-1]["t"] + 1
        found += page["candles"]
    assert found == right
    middle = right[30]["t"]
    assert get(server, "/api/v1/candles", symbol=SYMBOL, interval="1m", to=middle, limit=2)["candles"] == right[28:30]
    assert get(server, "/api/v1/candles", symbol=SYMBOL, interval="1m", from_=middle, to=middle + MINUTE_MS)["candles"] == [right[30]]


@pytest.mark.parametrize(("name", "event"), [("candles", Candle), ("indicators", Indicators), ("signals", Signal), ("windows", None)])
def test_csv_and_arrow_hold_what_json_holds(server: ServerProcess, name: str, event: type[Any] | None) -> None:
    """The same rows and values; prices in Arrow are decimals with eight places."""
    params = {"symbol": SYMBOL, "limit": "7"} | ({"interval": "1m"} if name in ("candles", "indicators") else {})
    records = get(server, f"/api/v1/{name}", **params)[name]
    assert len(records) == 7 or name == "signals"
    flat = [{k: v for k, v in (r | r.get("values", {})).items() if k not in ("values", "unready")} for r in records]
    arrow = server.http.get(f"/api/v1/{name}", params=params | {"format": "arrow"})
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    frame = pl.read_ipc_stream(io.BytesIO(arrow.content))
    text = server.http.get(f"/api/v1/{name}", params=params, headers={"accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(text.text)))
    for column in flat[0]:
        values = [row[column] for row in flat]
        # Decimals of Arrow are as exact as the text of JSON; a number of CSV is the shortest that gives the same bits.
        assert [Decimal(v) if frame.schema[column] == pl.Decimal(38, 8) else v for v in values] == frame[column].to_list()
        assert [_of_text(row[column], value) for row, value in zip(table, values, strict=True)] == values
    assert event is None or set(wire_fields(event)) - {"values"} <= set(frame.columns)
    if name == "candles":
        assert frame.schema["c"] == pl.Decimal(38, 8)


def test_books_are_the_records_of_their_topic(server: ServerProcess, module_broker: TestBroker) -> None:
    """The newest whole, all of them without their levels, in every format; a symbol that has none is told how to get one."""
    topic = Topic(module_broker.bootstrap_servers, ORDER_BOOK.name)
    values = topic.values()
    topic.close()
    assert len(values) == 10
    answer = get(server, f"/api/v1/books/{SYMBOL}")
    assert answer["book"] == values[-1]
    assert answer["age_s"] == pytest.approx((answer["server_time"] - values[-1]["E"]) / 1000)
    rows = [{name: value for name, value in each.items() if name not in ("bids", "asks")} for each in values]
    assert get(server, f"/api/v1/books/{SYMBOL}/features")["features"] == rows
    some = get(server, f"/api/v1/books/{SYMBOL}/features", **{"from": rows[2]["E"], "limit": 3})
    assert (some["features"], some["more"]) == (rows[2:5], True)
    frame = client_frame(SYMBOL, kind="books", limit=4, url=server.url)
    text = server.http.get(f"/api/v1/books/{SYMBOL}/features", params={"limit": 4, "format": "csv"}).text
    assert frame["imbalance"].to_list() == [row["imbalance"] for row in rows[-4:]]
    assert [float(line["ask_depth_50"]) for line in csv.DictReader(io.StringIO(text))] == [row["depth"]["50"][1] for row in rows[-4:]]
    assert [each["symbol"] for each in get(server, "/api/v1/books")["books"]] == [SYMBOL]
    missing = server.http.get("/api/v1/books/ETHBTC")
    assert (missing.status_code, "--with books" in missing.json()["error"]["do"]) == (404, True)


def test_gaps_symbols_and_status(server: ServerProcess, market: Market) -> None:
    """The ledger's gap; each symbol with its price; how much is held and that nothing is behind."""
    [gap] = get(server, "/api/v1/gaps", symbol=SYMBOL)["gaps"]
    assert (gap["state"], gap["seconds"], gap["producers"]) == ("refilled", 3, ["producer-1"])
    assert get(server, "/api/v1/gaps", from_=market.start_ms)["gaps"] == []
    symbols = {each["symbol"]: each for each in get(server, "/api/v1/symbols")["symbols"]}
    assert symbols.keys() == set(SYMBOLS)
    last = next(orjson.loads(v) for key, v in reversed(market.records.items()) if key[:3] == (CANDLES.name, SYMBOLS[1], "1m"))
    assert 0 < market.klines[SYMBOL][-1].close_time_ms - last["T"] < MINUTE_MS
    assert symbols[SYMBOLS[1]]["price"] == float(last["c"])
    assert symbols[SYMBOL]["age_s"] < 600
    status = get(server, "/api/v1/status")
    assert status["candles"]["symbols"] == 2
    assert status["candles"]["topics"][CANDLES.name]["read"] == sum(key[0] == CANDLES.name for key in market.records)
    series = Counter(key[1:3] for key in market.records if key[0] == CANDLES.name)
    assert status["candles"]["held"]["candles"]["rows"] == sum(min(count, 60) for count in series.values())
    assert status["windows"]["caught_up"]


@pytest.mark.parametrize("route", ["windows?", "candles?interval=1m&", "indicators?interval=1m&", "signals?"])
def test_an_unknown_symbol_is_not_found(server: ServerProcess, route: str) -> None:
    """404, where a known one without records is an empty answer."""
    answer = server.http.get(f"/api/v1/{route}symbol=NOTHING")
    assert (answer.status_code, answer.json()["error"]["came"]) == (404, "NOTHING")


def test_python_binance_reads_our_candles(server: ServerProcess, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, at our address: klines equal plain sums over the seconds, the candle in progress comes last."""
    monkeypatch.setattr(Client, "API_URL", f"{server.url}/api")
    monkeypatch.setattr(AsyncClient, "API_URL", f"{server.url}/api")
    client = Client()
    try:
        for interval, length_ms in (("1m", MINUTE_MS), ("5m", 5 * MINUTE_MS), ("15m", 15 * MINUTE_MS)):
            *closed, going = client.get_klines(symbol=SYMBOL, interval=interval)
            assert closed == expected_rows(market, length_ms)
            assert going == row_in_progress(market, length_ms)
        found = client.get_klines(symbol=SYMBOL, interval="1m", startTime=market.start_ms, limit=3)
        assert found == expected_rows(market, MINUTE_MS)[:3]
        last = found[-1][0]
        assert client.get_klines(symbol=SYMBOL, interval="1m", endTime=last, limit=1) == found[-1:]
        assert client.get_historical_klines(SYMBOL, "1m", market.start_ms, last) == found
        assert client.get_ui_klines(symbol=SYMBOL, interval="1h")[-1][0] == going[0] // 3_600_000 * 3_600_000
        assert client.get_symbol_info("ETHBTC")["quoteAsset"] == "BTC"
        for symbol, interval, code in (("NOTHING", "1m", -1121), (SYMBOL, "2m", -1120), ("no symbol", "1m", -1100)):
            with pytest.raises(BinanceAPIException) as refused:
                client.get_klines(symbol=symbol, interval=interval)
            assert (refused.value.code, refused.value.status_code) == (code, 400)
    finally:
        client.close_connection()
        client.loop.close()  # it makes one, and leaves it open

    async def ask() -> Any:
        opened = await AsyncClient.create()
        try:
            return await opened.get_klines(symbol=SYMBOL, interval="1m", limit=5)
        finally:
            await opened.close_connection()

    assert len(asyncio.run(ask())) == 5


def test_ccxt_reads_our_candles(server: ServerProcess, market: Market) -> None:
    """Unchanged, at our address: markets by name, and candles page by page, none missing and none twice."""
    exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}})
    exchange.urls["api"]["public"] = f"{server.url}/api/v3"
    assert set(exchange.load_markets()) == {"BTC/USDT", "ETH/BTC"}
    right = [[row[0], *map(float, row[1:6])] for row in expected_rows(market, MINUTE_MS)]
    found: list[list[float]] = []
    since = right[0][0]
    while page := exchange.fetch_ohlcv("BTC/USDT", "1m", since=since, limit=40):
        found += page
        since = page[-1][0] + 1
    assert found[:-1] == right
    assert found[-1][0] == right[-1][0] + MINUTE_MS
    with pytest.raises(ccxt.BadSymbol):
        exchange.fetch_ohlcv("NOTHING/USDT", "1m")


def test_what_comes_later_joins_what_is_held(server: ServerProcess, market: Market, module_broker: TestBroker) -> None:
    """A further candle is there soon, the exchange's own replaces a built one, and garbage among them is counted."""
    symbol = SYMBOLS[1]
    last = get(server, "/api/v1/candles", symbol=symbol, interval="1m", limit=1)["candles"][0]
    replaced = last | {"c": last["l"], "origin": "history", "klines": 0, "revision": 7}
    further = last | {"t": last["t"] + MINUTE_MS, "T": last["T"] + MINUTE_MS, "complete": False}
    garbage = [b"{", b"null", orjson.dumps(last | {"t": "1"}), orjson.dumps(last | {"t": last["t"] + 100 * 365 * 86_400_000})]
    values = [orjson.dumps(further), *garbage, orjson.dumps(replaced), orjson.dumps(last)]
    publish(module_broker.bootstrap_servers, [Record(CANDLES.name, symbol.encode(), value, last["T"]) for value in values])
    eventually(
        lambda: get(server, "/api/v1/candles", symbol=symbol, interval="1m", limit=2)["candles"] == [replaced, further],
        WAIT_S,
        "the two are there",
    )
    metrics = server.http.get("/metrics").text
    assert f'klinestream_server_store_rejected_total{{topic="{CANDLES.name}"}} {len(garbage)}.0' in metrics
    assert 'klinestream_server_http_requests_total{route="/api/v1/candles",status="200"}' in metrics
    assert market.records


def _of_text(text: str, like: Any) -> Any:
    """A cell of CSV as a value of the kind of another."""
    if like is None:
        return None if text == "" else text
    return text == "true" if isinstance(like, bool) else type(like)(text)


def examples() -> list[tuple[str, str]]:
    """Each route that the page asks, and the answer that it shows."""
    return re.findall(r"```json GET (\S+)\n(.*?)\n```", DOCS.read_text(), re.DOTALL)


def form(value: Any) -> Any:
    """A value's form: names and types, of a list that of its first item; of what an indicator, topic or distance is called only that."""
    if isinstance(value, dict):
        return {name: form(each) for name, each in value.items() if name not in ("values", "topics", "depth")}
    if isinstance(value, list):
        return [form(value[0])] if value else []
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.mark.parametrize(("path", "example"), examples())
def test_the_page_s_examples_are_what_the_server_answers(server: ServerProcess, path: str, example: str) -> None:
    """Each request of docs/rest.md gives an answer of the form that stands there."""
    answer = server.http.get(path)
    assert answer.status_code == orjson.loads(example).get("error", {"status": 200})["status"] if example[0] == "{" else 200
    assert form(answer.json()) == form(orjson.loads(example))

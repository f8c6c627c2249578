"""REST without a broker: what is refused and how, and what the answers say of themselves."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from klinestream.market.errors import BrokerError
from klinestream.market.ledger import Ledger
from klinestream.runtime.access.allowances import Allowances
from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from server.candles.rows import decode_candles
from server.candles.store import CandleStore
from server.exchange.params import Params
from server.exchange.rows import exchange_info, in_progress, kline_rows, quotes_of
from server.rest.docs import CANDLE
from server.rest.errors import RestError
from server.rest.limits import Encodings
from server.rest.query import Format, Span, chosen
from server.rest.sources import Gaps

NOW_MS = 1_790_000_000_000
SERIES = "symbol=BTCUSDT&interval=1m"


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


def app(**settings: Any) -> FastAPI:
    """A server that has read nothing: its threads don't start outside of its lifespan."""
    return create_app(ServerConfig(**settings), no_reader, lambda: NOW_MS)


def ask(server: FastAPI, *paths: str, **options: Any) -> list[httpx.Response]:
    """The answers to GET."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [await client.get(path, **options) for path in paths]

    return asyncio.run(all_of_them())


REFUSED = {
    f"/api/v1/candles?{SERIES}&limit=1001": (422, "limit"),
    f"/api/v1/candles?{SERIES}&limit=0": (422, "limit"),
    f"/api/v1/candles?{SERIES}&from=-1": (422, "from"),
    f"/api/v1/candles?{SERIES}&to=yesterday": (422, "to"),
    f"/api/v1/candles?{SERIES}&to=99999999999999": (422, "to"),
    f"/api/v1/candles?{SERIES}&from=2&to=1": (400, "from not after to"),
    f"/api/v1/candles?{SERIES}&format=xml": (422, "format"),
    f"/api/v1/candles?{SERIES}&colour=red": (422, "parameters"),
    "/api/v1/candles?symbol=BTCUSDT": (422, "interval"),
    "/api/v1/candles?symbol=BTCUSDT&interval=2m": (422, "interval"),
    f"/api/v1/candles?symbol={'X' * 41}&interval=1m": (422, "symbol"),
    "/api/v1/signals?symbol=two%20words": (422, "symbol"),
    "/api/v1/windows?symbol=NOTHING": (503, "crypto_data_aggregated read"),
    "/api/v1/gaps?state=lost": (422, "state"),
    "/api/v1/nothing": (404, "a route"),
    f"/api/v1/candles?{SERIES}": (503, "crypto_candles read"),
    f"/api/v1/indicators?{SERIES}": (503, "crypto_candles read"),
    "/api/v1/signals?symbol=BTCUSDT": (503, "crypto_candles read"),
}


@pytest.mark.parametrize(("path", "told"), REFUSED.items(), ids=REFUSED)
def test_every_refusal_says_what_was_expected_what_came_and_what_to_do(path: str, told: tuple[int, str]) -> None:
    """In one form, whatever is wrong; where waiting helps, with Retry-After."""
    [answer] = ask(app(), path)
    status, expected = told
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert list(error) == ["status", "expected", "came", "do"]
    assert error["status"] == status
    assert error["expected"].removeprefix("the parameter ").startswith(expected)
    assert error["came"]
    assert error["do"]
    assert ("retry-after" in answer.headers) == (status == 503)


EXCHANGE_REFUSED = {
    "interval=1m": -1102,
    "symbol=BTCUSDT": -1102,
    "symbol=BTCUSDT&interval=1M": -1120,
    f"{SERIES}&limit=0": -1130,
    f"{SERIES}&limit=-5": -1100,
    f"{SERIES}&limit=": -1105,
    f"{SERIES}&startTime=1.5": -1100,
    f"{SERIES}&endTime=99999999999999999999": -1130,
    f"{SERIES}&timeZone=25": -1130,
    "symbol=BTCUSDT&interval=1d&timeZone=2": -1130,
    f"{SERIES}&limit=1&limit=2": -1101,
    f"{SERIES}&colour=red": -1101,
}


@pytest.mark.parametrize(("query", "code"), EXCHANGE_REFUSED.items(), ids=EXCHANGE_REFUSED)
def test_the_exchange_s_routes_refuse_as_the_exchange_does(query: str, code: int) -> None:
    """With its codes, in its form."""
    [answer] = ask(app(), f"/api/v3/klines?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert set(answer.json()) == {"code", "msg"}


def test_the_exchange_s_routes_say_when_it_is_too_early() -> None:
    """What needs candles answers 503 until they are read, the rest answers at once."""
    answers = ask(app(), "/api/v3/ping", "/api/v3/time", f"/api/v3/klines?{SERIES}&timeZone=2", "/api/v3/exchangeInfo")
    assert [answer.status_code for answer in answers] == [200, 200, 503, 503]
    assert (answers[0].json(), answers[1].json()) == ({}, {"serverTime": NOW_MS})
    assert answers[2].json()["code"] == -1008
    assert answers[2].headers["retry-after"] == "5"


def test_an_address_that_asks_too_often_is_told_to_wait() -> None:
    """Twice the rate at once, then 429 in the form of the route; the page's own routes have no limit."""
    server = app(requests_per_s=2)
    answers = ask(server, *["/api/v3/ping"] * 5, "/api/v1/status", *["/healthz"] * 5)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2 + [200] * 5
    assert answers[4].json()["code"] == -1003
    assert answers[5].json()["error"]["status"] == 429
    assert answers[4].headers["retry-after"] == "1"
    [metrics] = ask(server, "/metrics")
    assert 'http_requests_total{route="/api/v3/ping",status="200"} 4.0' in metrics.text


def test_addresses_are_forgotten_when_they_are_too_many() -> None:
    """The one that was silent for longest first."""
    allowances = Allowances(1.0, addresses_most=2)
    assert [allowances.spend(address, 0.0) for address in ("a", "a", "b", "b", "a", "c", "a", "b")] == [
        True, True, True, True, False, True, False, True,
    ]  # fmt: skip


def test_only_so_many_encodings_wait() -> None:
    """One at once and one waiting: a third is refused with 503, and room is made again."""

    async def run() -> list[object]:
        encodings = Encodings(at_once=1, waiting_most=1)
        first = await asyncio.gather(*(encodings.run(lambda: "done") for _ in range(3)), return_exceptions=True)
        return [*first, await encodings.run(lambda: "again")]

    one, two, refused, again = asyncio.run(run())
    assert (one, two, again) == ("done", "done", "again")
    assert isinstance(refused, RestError)
    assert (refused.status, refused.retry_after_s) == (503, 1)


def test_the_ledger_is_read_once_for_all_who_ask() -> None:
    """At the same time and within some seconds; then anew. A fault is a 503."""
    readings: list[Ledger] = []
    now_s = 0.0

    def read() -> Ledger:
        readings.append(Ledger())
        if len(readings) > 2:
            raise BrokerError("away")
        return readings[-1]

    async def run() -> tuple[int, int, int]:
        nonlocal now_s
        gaps = Gaps(read, lambda: now_s)
        found = await asyncio.gather(gaps.ledger(), gaps.ledger())
        assert found[0] is found[1] is await gaps.ledger()
        first = len(readings)
        now_s = 5.0
        assert await gaps.ledger() is not found[0]
        second = len(readings)
        now_s = 10.0
        for _ in range(2):
            with pytest.raises(RestError, match="away"):
                await gaps.ledger()
        return first, second, len(readings)

    assert asyncio.run(run()) == (1, 2, 3)


def test_the_openapi_document_has_an_example_and_bounds_everywhere() -> None:
    """Of each route an answer; of each parameter that takes a number or text of any length, the most of it."""
    [answer] = ask(app(), "/api/openapi.json")
    paths = answer.json()["paths"]
    ours = (
        "windows",
        "candles",
        "indicators",
        "signals",
        "gaps",
        "symbols",
        "status",
        "pipeline",
        "market",
        "market/lines",
        "correlations",
        "books",
        "books/{symbol}",
        "books/{symbol}/features",
    )
    theirs = ("ping", "time", "exchangeInfo", "klines", "uiKlines")
    assert set(paths) == {f"/api/v1/{name}" for name in ours} | {f"/api/v3/{name}" for name in theirs}
    for path, route in paths.items():
        if path.startswith("/api/v1/"):
            assert "example" in route["get"]["responses"]["200"]["content"]["application/json"]
            for parameter in route["get"].get("parameters", ()):
                assert bounded(parameter["schema"]), (path, parameter)


def bounded(schema: dict[str, Any]) -> bool:
    options = schema.get("anyOf", [schema])
    ends = {"maxLength", "maximum", "exclusiveMaximum", "enum", "$ref"}
    return all(option.get("type") == "null" or ends & set(option) for option in options)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, [10, 20, 30, 40]),
        ({"limit": 2}, [30, 40]),
        ({"from": 20}, [20, 30, 40]),
        ({"from": 11, "limit": 1}, [20]),
        ({"to": 30}, [10, 20]),
        ({"to": 31, "limit": 2}, [20, 30]),
        ({"from": 20, "to": 40, "limit": 5}, [20, 30]),
        ({"from": 50}, []),
        ({"to": 10}, []),
    ],
)
def test_a_span_chooses_from_or_the_newest(span: dict[str, Any], expected: list[int]) -> None:
    """With `from` the oldest from there, else the newest; `to` is exclusive; `more` tells that some were left out."""
    times = [10, 20, 30, 40]
    which, more = chosen(times, Span(**span))
    assert times[which] == expected
    within = [time for time in times if span.get("from", 0) <= time < span.get("to", 99)]
    assert more == (len(within) > len(expected))


def test_the_header_accept_chooses_where_no_parameter_does() -> None:
    """And JSON is what everybody else gets."""
    assert Span().written_as("text/csv;q=0.9") is Format.CSV
    assert Span().written_as("application/vnd.apache.arrow.stream") is Format.ARROW
    assert Span().written_as("*/*") is Span().written_as(None) is Format.JSON
    assert Span(format=Format.JSON).written_as("text/csv") is Format.JSON


def test_the_candle_in_progress_comes_last_and_once() -> None:
    """After the closed ones, unless it is closed already; only if the span reaches that far."""
    store = CandleStore(10)
    found = decode_candles([orjson.dumps(CANDLE)], NOW_MS)
    store.candles.put(found.series, found.rows)
    rows, opened = store.candles.rows("BTCUSDT", "1m"), int(str(CANDLE["t"]))
    columns = [1.5, 2.0, 1.0, 1.25, 10.0, 12.5, 4.0, 5.0, 7, 30]

    def provisional(time_ms: int) -> bytes:
        return orjson.dumps({"s": "BTCUSDT", "T": time_ms, "candles": {"1m": columns}})

    def times(time_ms: int, **span: Any) -> list[int]:
        return [row[0] for row in kline_rows("BTCUSDT", "1m", rows, provisional(time_ms), Span(**span))]

    assert times(opened + 59_999) == [opened]
    assert times(opened + 60_999) == [opened, opened + 60_000]
    assert times(opened + 60_999, limit=1) == [opened + 60_000]
    assert times(opened + 60_999, to=opened + 60_000) == [opened]
    assert times(opened + 60_999, **{"from": opened, "limit": 1}) == [opened]
    assert times(opened + 60_999, **{"from": opened + 70_000}) == []
    assert in_progress("1m", provisional(opened + 60_999)) == [
        *[opened + 60_000, "1.50000000", "2.00000000", "1.00000000", "1.25000000", "10.00000000", opened + 119_999],
        *["12.50000000", 7, "4.00000000", "5.00000000", "0"],
    ]
    for bad in (None, b"{", b"{}", orjson.dumps({"s": "X", "T": 1, "candles": {"1m": [1]}})):
        assert in_progress("1m", bad) is None


@pytest.mark.parametrize(
    ("symbol", "quote"), [("BTCUSDT", "USDT"), ("USDCUSDT", "USDT"), ("ETHEURI", "EURI"), ("币安人生USDT", "USDT"), ("USDT", "SDT")]
)
def test_a_symbol_s_quote_asset_is_told_by_its_name(symbol: str, quote: str) -> None:
    """The longest quote that fits; else the last three letters."""
    assert quotes_of([symbol]) == [quote]


def test_where_several_quotes_fit_the_other_symbols_tell_which() -> None:
    """ADA trades elsewhere, AD doesn't: exchangeInfo says ADA / EUR."""
    listed = orjson.loads(exchange_info(["ADAEUR", "ADAUSDT", "BTCEUR"], 0, 6000))["symbols"]
    assert [(each["baseAsset"], each["quoteAsset"]) for each in listed] == [("ADA", "EUR"), ("ADA", "USDT"), ("BTC", "EUR")]


@pytest.mark.parametrize(
    ("read", "text", "code"),
    [
        (lambda params: params.symbols("a"), "BTCUSDT", -1100),
        (lambda params: params.symbols("a"), "[]", -1100),
        (lambda params: params.symbols("a"), '["A","A"]', -1151),
    ],
)
def test_a_list_of_symbols_is_read_strictly(read: Callable[[Params], object], text: str, code: int) -> None:
    """As the exchange reads it."""
    with pytest.raises(ExchangeFault) as refused:
        read(Params([("a", text)], ("a",)))
    assert refused.value.code == code

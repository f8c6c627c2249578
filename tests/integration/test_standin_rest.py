import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from klinestream.standin.exchange import Settings
from klinestream.standin.weights import Limits
from tests.integration.running_standin import RunningStandin, running

INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
LONG_AGO_MS = 1_700_000_000_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    # The tests of this module make more requests a minute than the exchange would allow.
    with running(Settings(limits=Limits(weight_per_minute=10**9))) as started:
        yield started


@pytest.fixture(scope="module")
def api(standin: RunningStandin) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{standin.http}/api/v3/", trust_env=False) as client:
        yield client


def get(api: httpx.Client, path: str, **params: Any) -> Any:
    answer = api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_ping_and_time(api: httpx.Client) -> None:
    """Ping answers nothing, time answers now, in µs where the header asks for it."""
    assert get(api, "ping") == {}
    assert abs(get(api, "time")["serverTime"] - time.time() * 1000) < 5000
    micros = api.get("time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"}).json()["serverTime"]
    assert abs(micros - time.time() * 1e6) < 5e6


def test_weights_are_reported(api: httpx.Client) -> None:
    """Each answer says how much weight its address has used, and depth costs more with its limit."""
    used = [int(api.get("ping").headers["X-MBX-USED-WEIGHT-1M"])]
    for path in (
        "exchangeInfo", "klines?symbol=BTCUSDT&interval=1m", "uiKlines?symbol=BTCUSDT&interval=1m", "aggTrades?symbol=BTCUSDT",
        "trades?symbol=BTCUSDT", "depth?symbol=BTCUSDT", "depth?symbol=BTCUSDT&limit=101", "depth?symbol=BTCUSDT&limit=1000",
        "depth?symbol=BTCUSDT&limit=5000", "klines?symbol=NOTHING&interval=1m",
    ):  # fmt: skip  # a path a cost
        headers = api.get(path).headers
        assert headers["X-MBX-USED-WEIGHT"] == headers["X-MBX-USED-WEIGHT-1M"]
        used.append(int(headers["X-MBX-USED-WEIGHT-1M"]))
    costs = [after - before for before, after in itertools.pairwise(used)]
    minute_turned = [cost for cost in costs if cost < 0]
    if not minute_turned:
        assert costs == [20, 2, 2, 4, 25, 5, 25, 50, 250, 2]


@pytest.mark.parametrize("interval", INTERVALS)
def test_klines_of_every_interval(api: httpx.Client, interval: str) -> None:
    """Klines are contiguous, oldest first; the newest is in progress; all have the exchange's twelve columns."""
    rows = get(api, "klines", symbol="BTCUSDT", interval=interval, limit=5)
    now_ms = time.time() * 1000
    assert len(rows) == 5
    assert all(later[0] == earlier[6] + 1 for earlier, later in itertools.pairwise(rows))
    assert rows[-1][0] <= now_ms
    assert rows[-1][6] >= rows[-1][0] + 999
    assert rows[-2][6] < now_ms
    for row in rows:
        assert [type(cell) for cell in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
        low, high = float(row[3]), float(row[2])
        assert low <= min(float(row[1]), float(row[4])) <= max(float(row[1]), float(row[4])) <= high
    assert get(api, "uiKlines", symbol="BTCUSDT", interval=interval, endTime=rows[-2][6], limit=4) == rows[:-1]


def test_time_window_of_klines(api: httpx.Client) -> None:
    """Start only gives the oldest from there, end only the newest up to there, both the oldest not past the end."""

    def opens(**params: int) -> list[int]:
        return [(row[0] - LONG_AGO_MS) // 1000 for row in get(api, "klines", symbol="BTCUSDT", interval="1s", **params)]

    assert opens(startTime=LONG_AGO_MS, limit=3) == [0, 1, 2]
    assert opens(startTime=LONG_AGO_MS + 1, limit=2) == [1, 2]
    assert opens(endTime=LONG_AGO_MS, limit=3) == [-2, -1, 0]
    assert opens(startTime=LONG_AGO_MS, endTime=LONG_AGO_MS + 1500, limit=3) == [0, 1]
    assert opens(startTime=LONG_AGO_MS, endTime=LONG_AGO_MS) == [0]
    assert opens(startTime=LONG_AGO_MS + 5000, endTime=LONG_AGO_MS) == []
    assert opens(startTime=LONG_AGO_MS * 1000, limit=2) == [0, 1]
    assert len(opens(startTime=LONG_AGO_MS)) == 500
    assert len(opens(startTime=LONG_AGO_MS, limit=5000)) == 1000
    assert opens(startTime=LONG_AGO_MS * 2) == []


@pytest.mark.parametrize(
    ("zone", "offset_ms"), [("8", 28_800_000), ("-1:00", -3_600_000), ("05:45", 20_700_000), ("0", 0), ("+14", 50_400_000)]
)
def test_time_zone_of_klines(api: httpx.Client, zone: str, offset_ms: int) -> None:
    """A day of another zone opens at its midnight and holds what its hours hold."""
    day, *_ = get(api, "klines", symbol="ETHUSDT", interval="1d", timeZone=zone, startTime=LONG_AGO_MS, limit=1)
    assert (day[0] + offset_ms) % DAY_MS == 0
    assert LONG_AGO_MS <= day[0] < LONG_AGO_MS + DAY_MS
    assert day[6] == day[0] + DAY_MS - 1
    parts = get(api, "klines", symbol="ETHUSDT", interval="15m", startTime=day[0], endTime=day[6])
    assert day[1] == parts[0][1]
    assert day[4] == parts[-1][4]
    assert float(day[2]) == max(float(part[2]) for part in parts)
    assert float(day[3]) == min(float(part[3]) for part in parts)
    assert day[8] == sum(part[8] for part in parts)
    assert float(day[5]) == pytest.approx(sum(float(part[5]) for part in parts), rel=1e-12)


def test_times_in_microseconds(api: httpx.Client) -> None:
    """With the header for µs a kline's times are µs, its close …999999."""
    params: dict[str, Any] = {"symbol": "BTCUSDT", "interval": "1s", "startTime": LONG_AGO_MS, "limit": 1}
    (row,) = api.get("klines", params=params, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}).json()
    assert (row[0], row[6]) == (LONG_AGO_MS * 1000, LONG_AGO_MS * 1000 + 999_999)


def test_nothing_from_the_future(api: httpx.Client) -> None:
    """However far ahead the end, nothing that is answered happened later than the answer's own time."""
    ahead = int(time.time() * 1000) + DAY_MS
    trades = get(api, "aggTrades", symbol="BTCUSDT", startTime=ahead - DAY_MS - 10_000, endTime=ahead)
    klines = get(api, "klines", symbol="BTCUSDT", interval="1s", startTime=ahead - DAY_MS - 3000, endTime=ahead)
    now_ms = get(api, "time")["serverTime"]
    assert klines
    assert all(row[0] <= now_ms for row in klines)
    assert all(trade["T"] <= now_ms for trade in trades)


def test_trades_and_agg_trades(api: httpx.Client) -> None:
    """Ids are contiguous; aggTrades are found by id, by span and as the newest, and cover the trades."""
    trades = get(api, "trades", symbol="BTCUSDT", limit=50)
    assert [trade["id"] for trade in trades] == list(range(trades[0]["id"], trades[0]["id"] + 50))
    assert list(trades[0]) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    newest = get(api, "aggTrades", symbol="BTCUSDT", limit=20)
    assert list(newest[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
    assert all(later["f"] == earlier["l"] + 1 for earlier, later in itertools.pairwise(newest))
    assert get(api, "aggTrades", symbol="BTCUSDT", fromId=newest[0]["a"], limit=20) == newest
    old = get(api, "historicalTrades", symbol="BTCUSDT", fromId=newest[0]["f"], limit=5)
    assert [trade["id"] for trade in old] == list(range(newest[0]["f"], newest[0]["f"] + 5))
    assert len(get(api, "historicalTrades", symbol="BTCUSDT", limit=7)) == 7
    first_ms, last_ms = newest[0]["T"], newest[-1]["T"]
    span = get(api, "aggTrades", symbol="BTCUSDT", startTime=first_ms, endTime=last_ms, limit=1000)
    assert [trade for trade in span if newest[0]["a"] <= trade["a"] <= newest[-1]["a"]] == newest
    until = get(api, "aggTrades", symbol="BTCUSDT", endTime=last_ms, limit=5)
    assert until[-1]["T"] <= last_ms
    assert len(until) == 5


def test_depth(api: httpx.Client) -> None:
    """The book has as many levels as asked for, best first, bids below asks."""
    book = get(api, "depth", symbol="BTCUSDT", limit=10)
    bids, asks = ([float(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert list(book) == ["lastUpdateId", "bids", "asks"]
    assert len(bids) == len(asks) == 10
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert len(get(api, "depth", symbol="BTCUSDT")["bids"]) <= 100


def test_exchange_info(api: httpx.Client, standin: RunningStandin) -> None:
    """All symbols, one, some, by permission and by status, each with a full set of filters."""
    info = get(api, "exchangeInfo")
    assert [symbol["symbol"] for symbol in info["symbols"]] == list(standin.exchange.market.symbols)
    assert {limit["rateLimitType"] for limit in info["rateLimits"]} == {"REQUEST_WEIGHT", "ORDERS", "RAW_REQUESTS"}
    filters = {entry["filterType"] for entry in info["symbols"][0]["filters"]}
    assert {"PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "NOTIONAL", "PERCENT_PRICE_BY_SIDE", "MAX_NUM_ORDERS"} <= filters
    assert [s["symbol"] for s in get(api, "exchangeInfo", symbol="ETHUSDT")["symbols"]] == ["ETHUSDT"]
    assert [s["symbol"] for s in get(api, "exchangeInfo", symbols='["ETHUSDT","BTCUSDT"]')["symbols"]] == ["ETHUSDT", "BTCUSDT"]
    assert get(api, "exchangeInfo", permissions="MARGIN")["symbols"] == []
    assert len(get(api, "exchangeInfo", permissions='["MARGIN","SPOT"]')["symbols"]) == len(info["symbols"])
    assert get(api, "exchangeInfo", symbolStatus="HALT")["symbols"] == []
    assert get(api, "exchangeInfo", symbol="ETHUSDT", showPermissionSets="false")["symbols"][0]["permissionSets"] == []


@pytest.mark.parametrize(
    ("path", "code", "msg"),
    [
        ("klines", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("klines?symbol=", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("klines?symbol=BTCUSDT", -1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."),
        (
            "klines?symbol=btcusdt&interval=1m",
            -1100,
            "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.",
        ),
        ("klines?symbol=NOTHING&interval=1m", -1121, "Invalid symbol."),
        ("klines?symbol=BTCUSDT&interval=1M1", -1120, "Invalid interval."),
        (
            "klines?symbol=BTCUSDT&interval=1m&limit=x",
            -1100,
            "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.",
        ),
        ("klines?symbol=BTCUSDT&interval=1m&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("klines?symbol=BTCUSDT&interval=1m&limit=", -1105, "Parameter 'limit' was empty."),
        ("klines?symbol=BTCUSDT&interval=1m&timeZone=15", -1130, "Data sent for parameter 'timeZone' is not valid."),
        ("klines?symbol=BTCUSDT&interval=1m&timeZone=x", -1130, "Data sent for parameter 'timeZone' is not valid."),
        ("klines?symbol=BTCUSDT&symbol=BTCUSDT&interval=1m", -1101, "Duplicate values for a parameter detected."),
        ("ping?symbol=BTCUSDT", -1101, "Too many parameters; expected '0' and received '1'."),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", -1128, "Combination of optional parameters invalid."),
        ("exchangeInfo?symbol=NOTHING", -1121, "Invalid symbol."),
        ("exchangeInfo?symbol=BTCUSDT&symbolStatus=TRADING", -1128, "Combination of optional parameters invalid."),
        ("exchangeInfo?symbolStatus=GONE", -1122, "Invalid symbolStatus."),
        ('exchangeInfo?symbols=["BTCUSDT","BTCUSDT"]', -1151, "Symbol is present multiple times in the list."),
        ("depth?symbol=NOTHING", -1121, "Invalid symbol."),
        ("trades?symbol=NOTHING", -1121, "Invalid symbol."),
    ],
)
def test_errors(api: httpx.Client, path: str, code: int, msg: str) -> None:
    """What can't be answered is refused with the exchange's code and text."""
    answer = api.get(path)
    assert (answer.status_code, answer.json()) == (400, {"code": code, "msg": msg})


def test_unknown_path(standin: RunningStandin) -> None:
    """What the exchange doesn't have is a 404."""
    assert httpx.get(f"{standin.http}/api/v3/nothing", trust_env=False).status_code == 404


def test_too_much_weight() -> None:
    """Past the weight of a minute comes 429 with Retry-After, and who goes on is banned with 418."""
    with running(Settings(limits=replace(Limits(), weight_per_minute=10, refusals_before_ban=3))) as standin:
        answers = [httpx.get(f"{standin.http}/api/v3/ping", trust_env=False) for _ in range(40)]
    statuses = [answer.status_code for answer in answers]
    first = statuses.index(418)
    assert statuses[first:] == [418] * (40 - first)
    refused = answers[first - 1]
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["code"] == -1003
    assert answers[-1].json()["msg"].startswith("Way too much request weight used; IP banned until ")
    assert 60 < int(answers[-1].headers["Retry-After"]) <= 120

import functools
import itertools

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.standin.endpoints import ENDPOINTS, Call, depth_weight
from klinestream.standin.faults import Faults
from klinestream.standin.frames import Unit
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.params import Params
from klinestream.standin.seeded.market import SeededMarket

NOW_MS = 1_790_000_000_123


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(1, 6)


def call(path: str, query: list[tuple[str, str]]) -> bytes:
    endpoint = ENDPOINTS[path]
    asked = Call(market(), Params(query, endpoint.params), NOW_MS, NOW_MS, Unit.MILLISECOND, Faults(), 6000)
    return orjson.dumps(endpoint.answer(asked))


def answered(path: str, query: list[tuple[str, str]]) -> bytes:
    """The body of the answer, or of the refusal; any other error is a fault."""
    try:
        return call(path, query)
    except ExchangeFault as error:
        return error.body


numbers = st.one_of(
    st.integers(0, 2000), st.integers(NOW_MS - 10**7, NOW_MS + 10**7), st.integers(0, 2**64), st.sampled_from([0, 2**63 - 1, 10**14])
).map(str)
values = {
    "symbol": st.sampled_from(["BTCUSDT", "ETHUSDT", "NOTHING", "btc"]),
    "interval": st.sampled_from([*INTERVALS, "7m"]),
    "symbols": st.sampled_from(['["BTCUSDT"]', "[1]", "{}", "[", '["X"]']),
    "timeZone": st.sampled_from(["0", "8", "-12:00", "5:45", "+14:00", "15", "1:5", "x"]),
    "permissions": st.sampled_from(["SPOT", '["SPOT"]', "MARGIN", "[]"]),
    "showPermissionSets": st.sampled_from(["true", "false", "2"]),
    "symbolStatus": st.sampled_from(["TRADING", "BREAK", "X"]),
}


def query_of(path: str) -> st.SearchStrategy[dict[str, str]]:
    """Queries with what the endpoint needs and some of what it may have, good or bad; limits small, so that it stays quick."""
    known = ENDPOINTS[path].params
    strategies = {name: values.get(name, numbers) for name in known} | ({"limit": st.integers(0, 5).map(str)} if "limit" in known else {})
    needed = {name: strategies[name] for name in ("symbol", "interval") if name in known and "symbols" not in known}
    return st.fixed_dictionaries(needed, optional={name: of for name, of in strategies.items() if name not in needed})


@pytest.mark.parametrize("path", ENDPOINTS)
@settings(deadline=None, max_examples=60)  # the market computes its days when they are first asked for
@given(data=st.data())
def test_every_query_is_answered_or_refused(path: str, data: st.DataObject) -> None:
    """Whatever the values of its parameters, a request is answered or refused with the exchange's error body."""
    query = data.draw(query_of(path))
    answer = orjson.loads(answered(path, list(query.items())))
    refused = isinstance(answer, dict) and set(answer) == {"code", "msg"}
    assert refused or isinstance(answer, list if path.endswith(("lines", "rades")) else dict)


@pytest.mark.parametrize("interval", INTERVALS)
@given(open_ms=st.integers(NOW_MS - 4 * 10**9, NOW_MS))
@settings(deadline=None, max_examples=10)
def test_a_zone_of_whole_intervals_changes_nothing(interval: str, open_ms: int) -> None:
    """In a zone whose offset is a whole number of intervals the same candles open at the same times."""
    length_ms = INTERVALS[interval].length_ms
    if not length_ms or 8 * 3_600_000 % length_ms:
        return
    query = [("symbol", "BTCUSDT"), ("interval", interval), ("startTime", str(open_ms)), ("limit", "3")]
    assert call("/api/v3/klines", [*query, ("timeZone", "8")]) == call("/api/v3/klines", query)


@pytest.mark.parametrize("zone", ["0:01", "-3:30", "+14:00"])
@pytest.mark.parametrize("interval", ["3m", "1h", "3d", "1w", "1M"])
def test_candles_of_any_zone(interval: str, zone: str) -> None:
    """Candles of a zone join without a gap, and the newest is in progress."""
    rows = orjson.loads(call("/api/v3/klines", [("symbol", "ETHUSDT"), ("interval", interval), ("timeZone", zone), ("limit", "3")]))
    assert rows[-1][0] < NOW_MS <= rows[-1][6]
    assert all(later[0] == earlier[6] + 1 for earlier, later in itertools.pairwise(rows))


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(None, 5), ("1", 5), ("100", 5), ("101", 25), ("500", 25), ("501", 50), ("1000", 50), ("1001", 250), ("9999", 250), ("x", 5), ("", 5)],
)
def test_depth_weight(limit: str | None, weight: int) -> None:
    """The more levels, the more weight."""
    assert depth_weight(limit) == weight

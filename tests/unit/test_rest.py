from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given

from klinestream.market.codec import kline_of_row
from klinestream.market.decimals import UNIT, show
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import Kline, Origin
from klinestream.runtime.rest import KLINES_MOST, BannedError, NotYetError, PassingError, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from tests.canned_rest import Answer, CannedRest, canned_rest, row
from tests.klines import START_MS, klines


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as served:
        yield served


def config(url: str, fallback: str = "") -> ExchangeConfig:
    return ExchangeConfig(rest_url=url, fallback_rest_url=fallback)


def opened(found: list[Kline]) -> list[int]:
    return [(kline.open_time_ms - START_MS) // 1000 for kline in found]


@given(klines())
def test_a_row_is_its_kline(kline: Kline) -> None:
    """A row of REST gives the kline it was made from, but for the trade ids, which it doesn't have."""
    prices = [show(value) for value in (kline.open, kline.high, kline.low, kline.close)]
    taker = [show(kline.taker_base_volume), show(kline.taker_quote_volume)]
    found = kline_of_row(
        kline.symbol,
        [kline.open_time_ms, *prices, show(kline.base_volume), kline.close_time_ms, show(kline.quote_volume), kline.trades, *taker, "0"],
    )
    for name in ("symbol", "open_time_ms", "close_time_ms", "open", "high", "low", "close", "trades"):
        assert getattr(found, name) == getattr(kline, name)
    for name in ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume"):
        assert getattr(found, name) == getattr(kline, name)
    assert (found.first_trade_id, found.last_trade_id_within, found.last_trade_id, found.origin) == (None, None, None, Origin.REST)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (None, "row"),
        ({"t": START_MS}, "row"),
        (row(START_MS)[:11], "12 columns"),
        (row(START_MS, t=str(START_MS)), "t:"),
        (row(START_MS + 1), "whole second"),
        (row(START_MS, T=START_MS + 59_999), "999"),
        (row(START_MS, o=1.5), "o:"),
        (row(START_MS, h="1.60000000"), "l, h"),
        (row(START_MS, v="-1.0"), "v:"),
        (row(START_MS, n=None), "n:"),
        (row(START_MS, Q=""), "Q:"),
    ],
)
def test_a_row_that_is_no_kline(wrong: Any, why: str) -> None:
    """A row that can't be a closed 1 s kline is refused, naming what is wrong."""
    with pytest.raises(RecordError, match=why):
        kline_of_row("BTCUSDT", wrong)


def test_klines_are_asked_for(exchange: CannedRest) -> None:
    """One request names the span's first millisecond and last, and gives its klines, oldest first."""
    with Rest(config(exchange.url)) as rest:
        found = rest.klines("BTCUSDT", START_MS, START_MS + 3000)
    assert exchange.asked == [
        {"symbol": "BTCUSDT", "interval": "1s", "startTime": str(START_MS), "endTime": str(START_MS + 2999), "limit": "1000"}
    ]
    assert opened(found) == [0, 1, 2]
    assert found[0].high == 2 * UNIT


@pytest.mark.parametrize(("from_ms", "to_ms"), [(0, 0), (0, 1500), (500, 1500), (2000, 1000), (0, (KLINES_MOST + 1) * 1000), (-1000, 0)])
def test_spans_that_cannot_be_asked_for(exchange: CannedRest, from_ms: int, to_ms: int) -> None:
    """A span that isn't 1 to 1000 whole seconds is a ValueError, and nothing is asked."""
    with Rest(config(exchange.url)) as rest, pytest.raises(ValueError, match="whole seconds"):
        rest.klines("BTCUSDT", from_ms, to_ms)
    assert not exchange.asked


@pytest.mark.parametrize(("after_ms", "closed"), [(3000, [0, 1, 2]), (2999, [0, 1]), (2000, [0, 1]), (0, [])])
def test_seconds_in_progress_are_left_out(exchange: CannedRest, after_ms: int, closed: list[int]) -> None:
    """Only seconds that had closed when the answer was made, by its own date, are taken."""
    date = formatdate((START_MS + after_ms) // 1000, usegmt=True)
    exchange.answer = lambda _: Answer([row(START_MS + 1000 * second) for second in range(3)], headers={"Date": date})
    with Rest(config(exchange.url)) as rest:
        assert opened(rest.klines("BTCUSDT", START_MS, START_MS + 3000)) == closed


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Log in to this network</html>",
        {"code": 0},
        [row(START_MS), row(START_MS)],
        [row(START_MS + 1000), row(START_MS)],
        [row(START_MS - 1000)],
        [row(START_MS + 2000)],
        [row(START_MS)[:5]],
    ],
)
def test_answers_that_cannot_be_used(exchange: CannedRest, body: Any) -> None:
    """An answer that isn't the span's klines, oldest first, is an ExchangeError that won't pass by itself."""
    exchange.answer = lambda _: Answer(body)
    with Rest(config(exchange.url)) as rest, pytest.raises(ExchangeError, match="expected") as raised:
        rest.klines("BTCUSDT", START_MS, START_MS + 2000)
    assert not isinstance(raised.value, PassingError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0, PassingError), (429, PassingError), (503, PassingError), (418, BannedError), (403, BannedError), (400, ExchangeError)],
)
def test_refusals_are_told_apart(exchange: CannedRest, status: int, kind: type[ExchangeError]) -> None:
    """What may pass, what lasts longer and what is wrong with the request itself are different errors."""
    exchange.answer = lambda _: Answer({"code": -1121, "msg": "Invalid symbol."}, status)
    with Rest(config(exchange.url)) as rest, pytest.raises(ExchangeError) as raised:
        rest.klines("BTCUSDT", START_MS, START_MS + 1000)
    assert type(raised.value) is kind


def test_answers_are_reported(exchange: CannedRest) -> None:
    """Every kind of request tells Weights what the exchange says is used."""
    weights = Weights(6000)
    with Rest(config(exchange.url), weights) as rest:
        exchange.answer = lambda _: Answer({"serverTime": 1}, headers={"X-MBX-USED-WEIGHT-1M": "1000"})
        assert rest.server_time_ms() == 1
        assert weights.used() == 1000
        exchange.answer = lambda _: Answer({"symbols": []}, headers={"X-MBX-USED-WEIGHT-1M": "1020"})
        assert rest.statuses() == {}
        assert weights.used() == 1020
        exchange.answer = lambda _: Answer([], headers={"X-MBX-USED-WEIGHT-1M": "1022"})
        assert rest.klines("BTCUSDT", START_MS, START_MS + 1000) == []
        assert weights.used() == 1022


def test_nothing_is_sent_while_refused(exchange: CannedRest) -> None:
    """After a refusal no request is sent, of any kind, until it is over; the error says when that is."""
    exchange.answer = lambda _: Answer({}, 418, {"Retry-After": "300"})
    with Rest(config(exchange.url), Weights(6000)) as rest:
        with pytest.raises(BannedError):
            rest.klines("BTCUSDT", START_MS, START_MS + 1000)
        with pytest.raises(NotYetError) as raised:
            rest.server_time_ms()
    assert 290 < raised.value.wait_s <= 300
    assert len(exchange.asked) == 1


def test_a_blocked_region(exchange: CannedRest) -> None:
    """After 451 the other address is asked, at once and for good."""
    with canned_rest() as other, Rest(config(exchange.url, other.url + "/")) as rest:
        exchange.answer = lambda _: Answer({}, 451)
        for _ in range(2):
            assert opened(rest.klines("BTCUSDT", START_MS, START_MS + 1000)) == [0]
        assert (len(exchange.asked), len(other.asked)) == (1, 2)


@pytest.mark.parametrize("fallback", ["", "https://data-api.binance.vision", "itself"])
def test_a_blocked_region_without_another_address(exchange: CannedRest, fallback: str) -> None:
    """Where there is no other address, or only one of another world than this one's, 451 is an error that says what to do."""
    exchange.answer = lambda _: Answer({}, 451)
    fallback = exchange.url if fallback == "itself" else fallback
    with Rest(config(exchange.url, fallback)) as rest, pytest.raises(ExchangeError, match=r"region \(451\): set exchange\.rest_url"):
        rest.klines("BTCUSDT", START_MS, START_MS + 1000)
    assert len(exchange.asked) == 1

"""Trades held to the exchange's own klines: what is right agrees in every field, what is wrong is named."""

import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from klinestream.market import decimals
from klinestream.market.codec import decode_trade
from klinestream.market.events import SECOND_MS
from klinestream.runtime.config import Config
from klinestream.runtime.rest import Rest
from klinestream.standin.faults import Withhold
from producer.feeds.binance_trades import BinanceTrades
from producer.feeds.interface import Want
from tests.integration.running_standin import RunningStandin, running

SYMBOL = "BTCUSDT"
SPAN_MS = 30_000


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def feed(configured: Callable[..., Config], standin: RunningStandin) -> Iterator[tuple[BinanceTrades, Rest]]:
    config = configured(exchange={"websocket_url": standin.ws, "rest_url": standin.http})
    with Rest(config.exchange) as rest:
        yield BinanceTrades(config), rest


def published(feed: BinanceTrades, rest: Rest, standin: RunningStandin) -> list[bytes]:
    """The records of half a minute that has passed, or of as much of it as one page holds where the market is busy."""
    market, end_ms = standin.exchange.market, time.time_ns() // 1_000_000 - SPAN_MS
    first = market.agg_trade_id_at(SYMBOL, end_ms - SPAN_MS)
    entries = feed.fetch(rest, Want(SYMBOL, None, None, cursor=first))
    return [entry.content[1] for entry in entries if entry.time_ms < end_ms]


def test_right_ones_agree_with_the_exchange_s_klines(feed: tuple[BinanceTrades, Rest], standin: RunningStandin) -> None:
    """Each whole second of them is compared, and no field differs."""
    trades, rest = feed
    values = published(trades, rest, standin)
    first_s, last_s = (decode_trade(values[place]).time_ms // SECOND_MS for place in (0, -1))
    found = trades.compare(rest, SYMBOL, values)
    assert found.items == last_s - first_s - 1 > 0
    assert found.differing == ()


@pytest.mark.parametrize(("field", "differing"), [("q", {"v", "q"}), ("m", {"V", "Q"}), ("p", {"q"})])
def test_a_wrong_field_is_told(feed: tuple[BinanceTrades, Rest], standin: RunningStandin, field: str, differing: set[str]) -> None:
    """One trade with a little more volume, another taker, or another price, shows in the fields that it touches."""
    trades, rest = feed
    values = published(trades, rest, standin)
    wrong = orjson.loads(values[len(values) // 2])
    wrong[field] = not wrong[field] if field == "m" else decimals.show(decimals.parse(wrong[field]) * 3)
    values[len(values) // 2] = orjson.dumps(wrong)
    assert differing <= set(trades.compare(rest, SYMBOL, values).differing)


def test_a_trade_that_is_missing_is_told(feed: tuple[BinanceTrades, Rest], standin: RunningStandin) -> None:
    """The number of trades differs."""
    trades, rest = feed
    values = published(trades, rest, standin)
    del values[len(values) // 2]
    assert "n" in trades.compare(rest, SYMBOL, values).differing


def test_a_kline_that_the_exchange_lacks_is_told(feed: tuple[BinanceTrades, Rest], standin: RunningStandin) -> None:
    """By its time."""
    trades, rest = feed
    values = published(trades, rest, standin)
    standin.client.inject(Withhold(seconds=60))
    try:
        assert set(trades.compare(rest, SYMBOL, values).differing) == {"t"}
    finally:
        standin.client.clear()


def test_too_few_to_hold_a_whole_second_prove_nothing(feed: tuple[BinanceTrades, Rest], standin: RunningStandin) -> None:
    """Nothing is compared."""
    trades, rest = feed
    assert trades.compare(rest, SYMBOL, published(trades, rest, standin)[:1]).items == 0

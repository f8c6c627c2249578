"""Published klines beside the exchange's: what differs, what its trades give, what is missing; and how trades are asked for."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.codec import decode_kline, kline_object
from klinestream.market.decimals import UNIT
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import GapState, Kline
from klinestream.market.reconcile import (
    MARKET_FIELDS,
    Against,
    AggTrade,
    Mismatch,
    agg_trade_of,
    differences,
    klines_from_agg_trades,
    mismatches,
    missing_spans,
    references,
)
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Record
from klinestream.runtime.rest import AGG_TRADES_MOST, NotYetError, PassingError, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.market import Candle
from klinestream.standin.seeded.market import SeededMarket
from producer.feed import SAMPLED_MOST, Feed
from producer.metrics import Metrics
from producer.outlet import Outlet
from tests.canned_rest import Answer, CannedRest, canned_rest
from tests.klines import START_MS, kline, klines

FIELDS = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "base_volume",
    "q": "quote_volume",
    "V": "taker_base_volume",
    "Q": "taker_quote_volume",
    "n": "trades",
}
MARKET_SYMBOLS = 40
YEARS_S = st.integers(1_600_000_000, 2_000_000_000)


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(3, MARKET_SYMBOLS)


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as served:
        yield served


def agg(number: int, price: int = UNIT, quantity: int = UNIT, second: int = 0, **fields: Any) -> AggTrade:
    """An aggregated trade of one trade, `second` seconds after START_MS."""
    values: dict[str, Any] = {"first_trade_id": number, "last_trade_id": number, "time_ms": START_MS + 1000 * second}
    return AggTrade(number, price, quantity, **{"buyer_is_maker": False} | values | fields)


def item(number: int, time_ms: int = START_MS, **changes: Any) -> dict[str, Any]:
    """An aggregated trade as REST gives it."""
    return {"a": number, "p": "1.50000000", "q": "2.00000000", "f": number, "l": number, "T": time_ms, "m": True, "M": True} | changes


def candle_fields(candle: Candle) -> dict[str, int]:
    values = {name: getattr(candle, attribute) for name, attribute in FIELDS.items()}
    return values | {"t": candle.open_time_ms, "f": candle.first_trade_id, "L": candle.last_trade_id}


def kline_fields(built: Kline) -> dict[str, int | None]:
    values = {name: getattr(built, attribute) for name, attribute in FIELDS.items()}
    return values | {"t": built.open_time_ms, "f": built.first_trade_id, "L": built.last_trade_id_within}


@settings(max_examples=150)
@given(st.integers(0, MARKET_SYMBOLS - 1), YEARS_S, st.integers(1, 30))
def test_trades_give_the_klines_of_the_market(number: int, second: int, seconds: int) -> None:
    """Klines built from the aggregated trades of any span equal the market's own in every field, trade ids and quiet seconds included."""
    info = list(market().symbols.values())[number]
    from_ms = max(second * 1000, info.listed_ms + 1000)
    to_ms = from_ms + seconds * 1000
    made = market().agg_trades(info.name, from_ms, to_ms)
    before, *candles = market().candles(info.name, INTERVALS["1s"], from_ms - 1000, to_ms, to_ms)
    trades = [
        AggTrade(one.id, one.price, one.quantity, one.first_trade_id, one.last_trade_id, one.time_ms, one.buyer_is_maker) for one in made
    ]
    built = klines_from_agg_trades(info.name, trades, from_ms, to_ms, before.close)
    assert [kline_fields(one) for one in built] == [candle_fields(one) for one in candles]


def test_quote_volume_is_summed_before_it_is_cut_off() -> None:
    """Two trades of half of 1e-8 each are one of 1e-8; what is left beyond the eighth decimal is cut off."""
    trades = [agg(1, 1, UNIT // 2), agg(2, 1, UNIT // 2), agg(3, 1, UNIT - 1)]
    [built] = klines_from_agg_trades("BTCUSDT", trades, START_MS, START_MS + 1000, None)
    assert (built.quote_volume, built.taker_quote_volume, built.base_volume) == (1, 1, 2 * UNIT - 1)


def test_maker_flag_and_ids_say_whose_and_how_many_trades_they_were() -> None:
    """Where the buyer was the maker nothing was taken by a buyer; an aggregate counts as many trades as it has ids."""
    trades = [agg(1, first_trade_id=10, last_trade_id=14), agg(2, first_trade_id=15, last_trade_id=15, buyer_is_maker=True)]
    [built] = klines_from_agg_trades("BTCUSDT", trades, START_MS, START_MS + 1000, None)
    assert (built.trades, built.first_trade_id, built.last_trade_id_within, built.last_trade_id) == (6, 10, 15, 15)
    assert (built.base_volume, built.taker_base_volume, built.taker_quote_volume) == (2 * UNIT, UNIT, UNIT)


def test_quiet_seconds_carry_the_close_if_it_is_known() -> None:
    """Before the first trade a quiet second needs the close before the span; without it, it is left out. Other trades are passed over."""
    trades = [agg(1, 5, second=-1), agg(2, 7, second=1), agg(3, 9, second=3)]
    known = klines_from_agg_trades("BTCUSDT", trades, START_MS, START_MS + 3000, 5)
    assert [(one.close, one.trades, one.last_trade_id) for one in known] == [(5, 0, None), (7, 1, 2), (7, 0, 2)]
    assert [one.open_time_ms for one in klines_from_agg_trades("BTCUSDT", trades, START_MS, START_MS + 3000, None)] == [
        START_MS + 1000,
        START_MS + 2000,
    ]
    assert klines_from_agg_trades("BTCUSDT", [], START_MS, START_MS + 3000, None) == []


@given(klines(), st.sets(st.sampled_from(MARKET_FIELDS)), st.integers(1, 10**18))
def test_just_the_fields_that_differ_are_named(published: Kline, names: set[str], by: int) -> None:
    """Whatever market fields differ, by 1e-8 or by much, just they are named, in the order of the wire."""
    other = replace(published, **{FIELDS[name]: getattr(published, FIELDS[name]) + by for name in names})
    assert differences(published, other) == differences(other, published) == tuple(name for name in MARKET_FIELDS if name in names)


def test_where_a_kline_came_from_is_no_difference() -> None:
    """Origin and trade ids may differ; the second and the symbol may not."""
    ours = kline(second=1)
    assert differences(ours, replace(ours, origin="rest", first_trade_id=None, last_trade_id_within=None, last_trade_id=None)) == ()
    with pytest.raises(ValueError, match="one second"):
        differences(ours, kline(second=2))
    with pytest.raises(ValueError, match="one second"):
        differences(ours, replace(ours, symbol="ETHUSDT"))


def test_only_quote_volumes_may_be_off_by_the_rounding_of_each_trade() -> None:
    """Against trades q and Q may be off by 1e-8 a trade and no more, v not at all; against klines nothing may."""
    ours = kline(trades=3, taker_quote_volume=100)
    rounded = replace(ours, quote_volume=ours.quote_volume - 3, taker_quote_volume=103)
    wrong = replace(ours, quote_volume=ours.quote_volume + 4, base_volume=ours.base_volume + 1)
    others = {ours.open_time_ms: ours}
    assert list(mismatches([rounded], others, Against.TRADES)) == []
    assert [one.field for one in mismatches([rounded], others, Against.KLINES)] == ["q", "Q"]
    assert [one.field for one in mismatches([wrong], others, Against.TRADES)] == ["v", "q"]


def test_a_mismatch_tells_both_values() -> None:
    """Second, field and both values as on the wire; a second that the exchange lacks is passed over."""
    ours = [kline(second=1, base_volume=15 * UNIT // 10), kline(second=2)]
    others = {ours[0].open_time_ms: replace(ours[0], base_volume=UNIT)}
    assert list(mismatches(ours, others, Against.KLINES)) == [
        Mismatch("BTCUSDT", START_MS + 1000, "v", Against.KLINES, "1.50000000", "1.00000000")
    ]


def test_references_begin_a_second_before_the_span() -> None:
    """The kline before the span gives its first quiet second's price, and is none of those that are compared."""
    found = references("BTCUSDT", [kline(second=0, price=5), kline(second=1)], [agg(1, 7, second=2)], START_MS + 1000, START_MS + 3000)
    assert list(found[Against.KLINES]) == [START_MS + 1000]
    assert {opened: one.close for opened, one in found[Against.TRADES].items()} == {START_MS + 1000: 5, START_MS + 2000: 7}
    assert list(references("BTCUSDT", [], None, START_MS, START_MS + 1000)) == [Against.KLINES]


def test_missing_seconds_come_with_the_ledger_s_word() -> None:
    """Each span of missing seconds has the furthest state that explains it; that they were refilled explains nothing."""
    known = [
        (2000, 4000, GapState.DETECTED),
        (2000, 4000, GapState.DEFERRED),
        (3000, 4000, GapState.REFILLED),
        (6000, 7000, GapState.REFILLED),
    ]
    found = missing_spans("BTCUSDT", [0, 1000, 5000], 0, 8000, known)
    assert [(span.from_ms, span.to_ms, span.word, span.explained) for span in found] == [
        (2000, 4000, GapState.DEFERRED, True),
        (4000, 5000, None, False),
        (6000, 7000, GapState.REFILLED, False),
        (7000, 8000, None, False),
    ]
    assert [span.seconds for span in found] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([], "object"),
        (item(1, p=1.5), "p:"),
        (item(1, p="0.00000000"), "p:"),
        (item(1, q=None), "q:"),
        (item(1, a=-1), "a:"),
        (item(1, f=2), "f, l"),
        (item(1, l=True), "l:"),
        (item(1, T=10**16), "T:"),
        (item(1, m="true"), "m:"),
    ],
)
def test_an_item_that_is_no_trade(wrong: Any, why: str) -> None:
    """An item that can't be an aggregated trade is refused, naming what is wrong."""
    with pytest.raises(RecordError, match=why):
        agg_trade_of(wrong)


class Kept:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def publish(self, record: Record) -> None:
        self.records.append(record)

    def queued(self) -> int:
        return 0

    def flush(self, timeout_s: float) -> None:
        assert timeout_s

    close = flush


def test_a_sample_is_what_was_published_in_between() -> None:
    """From `sample` to `sampled` the very values that are published are kept, up to a bound; before, after, and of others nothing."""
    kept, metrics = Kept(), Metrics()
    outlet = Outlet(kept, "test", "ws://test", metrics, lambda: START_MS)
    feed = Feed(
        0,
        outlet,
        metrics,
        hold_s=3,
        ask=lambda _: True,
        withdraw=lambda _: None,
        now_ms=lambda: START_MS + 10_000_000,
        now_s=lambda: 0.0,
    )
    feed.follow(["BTCUSDT", "ETHUSDT"], {}, {})

    def publish(symbol: str, *seconds: int) -> None:
        for second in seconds:
            made = kline_object(kline(symbol, second)) | {"x": True}
            data = {"e": "kline", "s": symbol, "k": made}
            feed.take(orjson.dumps({"stream": f"{symbol.lower()}@kline_1s", "data": data}), set())

    publish("BTCUSDT", 0, 1)
    feed.sample("BTCUSDT")
    feed.sample("XRPUSDT")
    publish("ETHUSDT", 0)
    publish("BTCUSDT", 2, 4, 3)
    sampled = feed.sampled("BTCUSDT")
    assert sampled == [record.value for record in kept.records if record.topic == KLINES.name and record.key == b"BTCUSDT"][2:]
    assert [decode_kline(value or b"").open_time_ms - START_MS for value in sampled] == [2000, 3000, 4000]
    publish("BTCUSDT", 5)
    assert feed.sampled("BTCUSDT") == feed.sampled("ETHUSDT") == feed.sampled("XRPUSDT") == []
    feed.sample("BTCUSDT")
    publish("BTCUSDT", *range(6, 6 + SAMPLED_MOST + 5))
    assert len(feed.sampled("BTCUSDT")) == SAMPLED_MOST
    feed.sample("ETHUSDT")
    publish("ETHUSDT", 1)
    feed.forget(["ETHUSDT"])
    assert feed.sampled("ETHUSDT") == []
    feed.sample("BTCUSDT")
    assert feed.sampled("BTCUSDT") == []


def in_pages(trades: list[dict[str, Any]]) -> Any:
    """Answers as the exchange does: by span or by id, up to the limit."""

    def answer(query: dict[str, str]) -> Answer:
        if "fromId" in query:
            assert "startTime" not in query
            found = [one for one in trades if one["a"] >= int(query["fromId"])]
        else:
            found = [one for one in trades if int(query["startTime"]) <= one["T"] <= int(query["endTime"])]
        return Answer(found[: int(query["limit"])])

    return answer


@pytest.mark.parametrize("within", [0, 1, 999, 1000, 1001, 2000, 2500])
def test_trades_are_asked_for_page_by_page(exchange: CannedRest, within: int) -> None:
    """However many trades a span has, all of them come, in order, and none of those after it; pages after the first are asked for by id."""
    trades = [item(7 + number, START_MS + (number >= within) * 1000) for number in range(within + 10)]
    exchange.answer = in_pages(trades)
    weights = Weights(6000)
    with Rest(ExchangeConfig(rest_url=exchange.url), weights) as rest:
        found = list(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000))
    assert [trade.id for trade in found] == list(range(7, 7 + within))
    assert len(exchange.asked) == within // AGG_TRADES_MOST + 1
    assert [query.get("fromId") for query in exchange.asked[1:]] == [str(7 + 1000 * page) for page in range(1, len(exchange.asked))]
    assert weights.used() == 4 * len(exchange.asked)


@pytest.mark.parametrize(
    "body",
    [{"code": 0}, b"<html>", [item(1), item(3)], [item(2), item(1)], [item(1, START_MS - 1)], [item(1, START_MS + 1000)], [item(1, p="x")]],
)
def test_answers_with_other_trades_are_refused(exchange: CannedRest, body: Any) -> None:
    """An answer that isn't the span's trades, one after the other, is an ExchangeError that won't pass by itself."""
    exchange.answer = lambda _: Answer(body)
    with Rest(ExchangeConfig(rest_url=exchange.url)) as rest, pytest.raises(ExchangeError, match="expected") as raised:
        list(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000))
    assert not isinstance(raised.value, PassingError)


def test_a_page_that_does_not_follow_is_refused(exchange: CannedRest) -> None:
    """If trades between two pages are missing, that is an error and not a smaller volume."""
    trades = [item(number) for number in range(1000)] + [item(1001)]
    exchange.answer = in_pages(trades)
    with Rest(ExchangeConfig(rest_url=exchange.url)) as rest, pytest.raises(ExchangeError, match="expected trade 1000 of BTCUSDT"):
        list(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000))


def test_trades_leave_weight_to_what_is_urgent(exchange: CannedRest) -> None:
    """Past half of the limit nothing is sent; `through` may try a page again, and all trades come once."""
    exchange.answer = in_pages([item(number) for number in range(1500)])
    now_ms = [1_000_000_020_000]
    weights = Weights(100, wall_ms=lambda: now_ms[0])
    used = weights.take(44, urgent=False)
    assert used
    weights.answered(used, 200, None, None)
    waited: list[float] = []

    def again(ask: Any) -> Any:
        try:
            return ask()
        except NotYetError as error:
            waited.append(error.wait_s)
            now_ms[0] += 60_000
            return ask()

    with Rest(ExchangeConfig(rest_url=exchange.url), weights) as rest:
        assert next(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000)).id == 0
        with pytest.raises(NotYetError):
            next(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000))
        found = list(rest.agg_trades("BTCUSDT", START_MS, START_MS + 1000, through=again))
    assert [trade.id for trade in found] == list(range(1500))
    assert len(waited) == 1

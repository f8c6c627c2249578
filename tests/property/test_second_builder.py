"""Klines built by the clock: how trades are split and when the clock is heard doesn't matter, and they are what other ways make of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import kline_object
from klinestream.market.events import BINANCE, SECOND_MS, Kline, Origin, Proof, Trade
from klinestream.market.reconcile import MARKET_FIELDS, AggTrade, klines_from_agg_trades
from klinestream.market.second_builder import QUIET_MOST, SecondBuilder
from tests.klines import START_MS

GRACE_MS = 2000
SYMBOL = "FINNHUB:AAPL"
LONG = 5000  # seconds, past what is derived at once


def trade(number: int, time_ms: int, price: int = 10**8, quantity: int = 10**8, **fields: object) -> Trade:
    values: dict[str, object] = {"last_id": number, "buyer_is_maker": None, "source": BINANCE, "proof": Proof.NONE, "origin": Origin.LIVE}
    return Trade(
        **{"symbol": SYMBOL, "aggregate_id": None, "first_id": number, "price": price, "quantity": quantity, "time_ms": time_ms}
        | {"conditions": None}
        | values
        | fields  # type: ignore[arg-type]  # the caller names fields
    )


@st.composite
def trades(draw: st.DrawFn) -> list[Trade]:
    """Trades in order of their seconds, in any order within one, some of them several at once, some without volume."""
    made: list[Trade] = []
    second, number = 0, draw(st.integers(0, 100))
    for jump in draw(st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 30]), max_size=40)):
        second += jump
        several = draw(st.sampled_from([1, 1, 3]))
        made.append(
            trade(
                number,
                START_MS + second * SECOND_MS + draw(st.integers(0, SECOND_MS - 1)),
                draw(st.integers(1, 10**18)),
                draw(st.integers(0, 10**22)),
                last_id=number + several - 1,
                buyer_is_maker=draw(st.sampled_from([True, False, None])),
            )
        )
        number += several
    return made


def in_one_pass(given_trades: Sequence[Trade], end_ms: int) -> list[Kline]:
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    klines = [kline for one in given_trades for kline in builder.add(one)]
    return klines + builder.tick(end_ms + GRACE_MS)


def after(given_trades: Sequence[Trade]) -> int:
    return max((one.time_ms for one in given_trades), default=START_MS) + 5 * SECOND_MS


@given(trades(), st.data())
def test_when_the_clock_is_heard_does_not_matter(given_trades: list[Trade], data: st.DataObject) -> None:
    """As long as it makes no trade late, ticking at any times between trades gives the klines of one pass."""
    builder, klines, now_ms = SecondBuilder(SYMBOL, GRACE_MS), list[Kline](), START_MS
    end_ms = after(given_trades)
    for one in given_trades:
        for now_ms in data.draw(st.lists(st.integers(START_MS, one.time_ms // SECOND_MS * SECOND_MS + SECOND_MS - 1), max_size=2)):
            klines += builder.tick(now_ms + GRACE_MS)
        klines += builder.add(one)
    klines += builder.tick(end_ms + GRACE_MS)
    assert klines == in_one_pass(given_trades, end_ms)


@given(trades())
def test_they_are_the_klines_that_a_span_of_trades_gives(given_trades: list[Trade]) -> None:
    """From the first trade's second to the end, each second once, equal to what the feed is checked against."""
    end_ms = after(given_trades)
    first_ms = min((one.time_ms for one in given_trades), default=end_ms) // SECOND_MS * SECOND_MS
    agg_trades = [
        # As a taker's where it is known: the other way knows nothing else.
        AggTrade(one.first_id, one.price, one.quantity, one.first_id, one.last_id, one.time_ms, one.buyer_is_maker is not False)
        for one in given_trades
    ]
    expected = klines_from_agg_trades(SYMBOL, agg_trades, first_ms, end_ms // SECOND_MS * SECOND_MS, None)
    built = in_one_pass(given_trades, end_ms)
    assert [replace(kline, origin=Origin.REST) for kline in built] == expected
    assert {kline.origin for kline in built} <= {Origin.BUILT}


@given(trades())
def test_sums_are_exact(given_trades: list[Trade]) -> None:
    """v is the sum of the quantities, q that of price times quantity, cut off once; both as fractions say it."""
    for kline in in_one_pass(given_trades, after(given_trades)):
        mine = [one for one in given_trades if kline.open_time_ms <= one.time_ms <= kline.close_time_ms]
        assert kline.base_volume == sum(one.quantity for one in mine)
        exact = sum((Fraction(one.price, 10**8) * Fraction(one.quantity, 10**8) for one in mine), Fraction(0))
        assert kline.quote_volume == exact * 10**8 // 1
        assert kline.trades == sum(one.last_id - one.first_id + 1 for one in mine)


def seconds(klines: Iterable[Kline]) -> list[int]:
    return [(kline.open_time_ms - START_MS) // SECOND_MS for kline in klines]


def at(second: float) -> int:
    return START_MS + round(second * SECOND_MS)


def test_a_second_closes_when_its_end_and_the_grace_are_over() -> None:
    """Not a millisecond before."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    assert builder.add(trade(1, at(0.3))) == []
    assert builder.tick(at(2.999)) == []
    assert seconds(builder.tick(at(3))) == [0]


def test_a_trade_of_a_closed_second_is_late_and_changes_nothing() -> None:
    """Whether the clock closed it or a later trade; one that is taken all the same is an error."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(1, at(0.3)))
    builder.tick(at(3))
    assert builder.is_late(at(0.999))
    assert not builder.is_late(at(1))
    builder.add(trade(2, at(4)))
    assert builder.is_late(at(3.999))
    with pytest.raises(ValueError, match="expected a trade from"):
        builder.add(trade(3, at(3.999)))
    assert builder.tick(at(7))[-1] == builder_of_one(4, 2)


def builder_of_one(second: int, number: int) -> Kline:
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(number, at(second)))
    (kline,) = builder.tick(at(second + 3))
    return kline


def test_before_the_first_trade_the_clock_closes_seconds_too() -> None:
    """A trade of long ago is late even if it is the first one that comes."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    assert builder.tick(at(100)) == []
    assert builder.is_late(at(97.999))
    assert not builder.is_late(at(98))


def test_a_trade_without_volume_moves_the_price_and_counts() -> None:
    """And the second has no volume, but a trade."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(1, at(0), 2 * 10**8, 0))
    builder.add(trade(2, at(0.1), 3 * 10**8, 0))
    (kline,) = builder.tick(at(3))
    said = kline_object(kline)
    assert [said[name] for name in MARKET_FIELDS] == [
        *("2.00000000", "3.00000000", "2.00000000", "3.00000000"),
        *(["0.00000000"] * 4),
        2,
    ]
    assert (kline.first_trade_id, kline.last_trade_id_within, kline.last_trade_id) == (1, 2, 2)


def test_after_a_break_what_was_open_and_the_second_of_the_next_trade_are_not_given() -> None:
    """A new run begins with the second after it, and carries that trade's price and number on."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(1, at(0)))
    assert seconds(builder.add(trade(2, at(1)))) == [0]
    builder.break_off()
    assert builder.tick(at(10)) == []
    builder.add(trade(3, at(12.5), 7 * 10**8))
    given_then = builder.tick(at(16))
    assert seconds(given_then) == [13]
    assert (given_then[0].close, given_then[0].trades, given_then[0].last_trade_id) == (7 * 10**8, 0, 3)


def test_a_second_is_never_given_twice_over_a_break() -> None:
    """Nor is one that another run gave, which is told at the beginning."""
    builder = SecondBuilder(SYMBOL, GRACE_MS, closed_ms=at(5), whole=False)
    assert builder.is_late(at(4.9))
    builder.add(trade(1, at(5)))
    builder.break_off()
    builder.add(trade(2, at(5.5)))
    assert seconds(builder.add(trade(3, at(7)))) == [6]


@pytest.mark.parametrize(("pause", "given_then"), [(QUIET_MOST, QUIET_MOST + 1), (LONG, 1)])
def test_a_pause_in_which_nothing_was_heard_is_bounded(pause: int, given_then: int) -> None:
    """Up to an hour each quiet second is given; past it there is a hole, and the next trade begins a new run."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(1, at(0)))
    assert len(builder.add(trade(2, at(pause + 1)))) == given_then
    assert seconds(builder.tick(at(pause + 4))) == [pause + 1]


def test_a_pause_is_bounded_where_only_the_clock_is_heard() -> None:
    """The run is over, and quiet seconds come no more until a trade does."""
    builder = SecondBuilder(SYMBOL, GRACE_MS)
    builder.add(trade(1, at(0)))
    assert seconds(builder.tick(at(LONG))) == [0]
    assert builder.tick(at(LONG + 10)) == []

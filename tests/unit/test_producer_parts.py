"""The producer's pure parts: order and repeats, groups and requests, back-off, the clocks' offset, choice of symbols."""

import random
from itertools import islice

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.errors import ConfigError
from klinestream.market.partitions import partition_of
from klinestream.runtime.rest import chosen_symbols
from producer.backoff import pauses
from producer.clock import Sample, offset_ms
from producer.frames import ClosedKline
from producer.groups import REQUEST_BYTES_MOST, groups, stream_name, subscriptions
from producer.sequence import Next, Sequence

names = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=20), max_size=300, unique=True)


def kline(second: int, last_trade_id: int = -1, symbol: str = "BTCUSDT") -> ClosedKline:
    """A kline of that second."""
    return ClosedKline(symbol, second * 1000, second * 1000 + 999, last_trade_id, {})


def test_repeats_are_not_admitted() -> None:
    """A kline not newer than the last one of its symbol is a repeat; other symbols don't matter."""
    sequence = Sequence()
    assert sequence.admit(kline(10))
    assert sequence.admit(kline(10)) is None
    assert sequence.admit(kline(9)) is None
    assert sequence.admit(kline(10, symbol="ETHUSDT"))
    assert sequence.admit(kline(11))


def test_gap_is_counted() -> None:
    """A kline that skips seconds is admitted with their number."""
    sequence = Sequence()
    found = [sequence.admit(kline(second)) for second in (10, 11, 15)]
    assert [following and following.missing_s for following in found] == [0, 0, 3]


def test_last_trade_id_is_carried_through_quiet_seconds() -> None:
    """The newest trade's id is null until known, carried through quiet seconds, and unknown again after a gap."""
    sequence = Sequence()
    found = [sequence.admit(kline(second, trade)) for second, trade in ((10, -1), (11, 500), (12, -1), (13, 507), (15, -1), (16, 509))]
    assert found == [Next(0, None), Next(0, 500), Next(0, 500), Next(0, 507), Next(1, None), Next(0, 509)]


@given(names, st.integers(1, 12), st.integers(1, 50))
def test_groups_hold_each_symbol_once(symbols: list[str], partitions: int, most: int) -> None:
    """Each symbol is in one group, all of a group are of its partition, and none has more than a connection takes."""
    planned = groups(symbols, partitions, most)
    assert sorted(symbol for group in planned for symbol in group.symbols) == sorted(symbols)
    assert all(partition_of(symbol, partitions) == group.partition for group in planned for symbol in group.symbols)
    assert all(1 <= len(group.symbols) <= most for group in planned)
    assert len({group.name for group in planned}) == len(planned)


@given(names)
def test_subscriptions_ask_for_each_stream_once(symbols: list[str]) -> None:
    """Each stream is asked for once, in requests short enough to be answered."""
    streams = [stream_name(symbol) for symbol in symbols]
    requests = subscriptions(streams)
    assert all(len(request) <= REQUEST_BYTES_MOST for request in requests)
    asked = [orjson.loads(request) for request in requests]
    assert [stream for request in asked for stream in request["params"]] == streams
    assert [request["id"] for request in asked] == list(range(1, len(asked) + 1))


def test_a_full_market_fits_the_exchange_limits() -> None:
    """1,400 symbols take few requests, each nearly full."""
    streams = [stream_name(f"SYMBOL{number:04}USDT") for number in range(1400)]
    assert len(subscriptions(streams)) <= 14


def test_pauses_grow_to_their_cap() -> None:
    """Each pause lies between half and all of a bound that doubles up to the cap."""
    found = list(islice(pauses(0.25, 4.0, random.Random(1).uniform), 50))
    bounds = [0.25, 0.5, 1.0, 2.0] + [4.0] * 46
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(found, bounds, strict=True))
    assert len(set(found)) == 50


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500)), min_size=1, max_size=5))
def test_offset_is_right_to_half_a_round_trip(true_ms: float, ways: list[tuple[float, float]]) -> None:
    """However long the ways there and back take, the offset is off by half the quickest round trip at most."""
    samples = [Sample(1e6, round(1e6 + there + true_ms), 1e6 + there + back) for there, back in ways]
    quickest = min(there + back for there, back in ways)
    assert abs(offset_ms(samples) - true_ms) <= quickest / 2 + 1


def test_all_symbols_that_trade() -> None:
    """`*` alone means all symbols that trade."""
    assert chosen_symbols(["*"], {"B": "TRADING", "A": "TRADING", "C": "BREAK"}) == ("A", "B")


def test_unknown_symbols_are_named() -> None:
    """Symbols that the exchange does not list are an error that names them."""
    with pytest.raises(ConfigError, match=r"exchange\.symbols.*BTCUSD, btcusdt"):
        chosen_symbols(["BTCUSDT", "btcusdt", "BTCUSD"], {"BTCUSDT": "TRADING"})
    with pytest.raises(ConfigError, match="got none"):
        chosen_symbols([], {"BTCUSDT": "TRADING"})

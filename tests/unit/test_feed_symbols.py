"""Symbols that leave a feed and come back."""

from klinestream.market.continuity import Tail
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import DEAD_LETTERS
from producer.feed import GONE_MOST
from tests.feeding import BEGIN_S, Fed
from tests.integration.small_exchange import frame

SYMBOL = "BTCUSDT"


def test_last_frames_of_a_symbol_that_left_are_no_dead_letters() -> None:
    """They were asked for, and are passed over; what was never asked for is a dead letter."""
    fed = Fed()
    fed.live(0)
    fed.feed.forget([SYMBOL])
    fed.live(1)
    assert fed.feed.followed == []
    assert fed.opened() == [0]
    assert not fed.published.of(DEAD_LETTERS.name)
    fed.feed.take(frame("ETHUSDT", BEGIN_S).encode(), set())
    assert len(fed.published.of(DEAD_LETTERS.name)) == 1


def test_a_symbol_that_comes_back_goes_on() -> None:
    """From the topic's newest record, as one that was never away."""
    fed = Fed()
    fed.live(0)
    fed.feed.forget([SYMBOL])
    fed.feed.follow([SYMBOL], {SYMBOL: Tail(BEGIN_S * SECOND_MS, "1.00000000", None)}, {})
    fed.live(1)
    assert fed.opened() == [0, 1]
    assert fed.feed.followed == [SYMBOL]


def test_the_newest_that_left_are_remembered() -> None:
    """However many come and go, so many are kept."""
    fed = Fed()
    others = [f"X{number}USDT" for number in range(GONE_MOST)]
    fed.feed.follow(others, {}, {})
    fed.feed.forget([SYMBOL])
    fed.feed.forget(others)
    fed.live(0)
    fed.feed.take(frame(others[-1], BEGIN_S).encode(), set())
    assert len(fed.published.of(DEAD_LETTERS.name)) == 1

"""Gaps that the topic's end has passed: refilled only where their seconds were seen in the topic, else deferred."""

from collections.abc import Container, Mapping

import pytest

from klinestream.market.codec import decode_gap
from klinestream.market.continuity import GivenUp, Span, Tail
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import FEED_GAPS
from producer.feed import Deferred
from tests.feeding import BEGIN_S, Fed

SYMBOL = "BTCUSDT"


def span(begin: int, end: int) -> Span:
    """Open times of seconds from the begin on."""
    return (BEGIN_S + begin) * SECOND_MS, (BEGIN_S + end) * SECOND_MS


def seconds(*numbers: int) -> set[int]:
    return {(BEGIN_S + number) * SECOND_MS for number in numbers}


def tail(second: int) -> Tail:
    return Tail((BEGIN_S + second) * SECOND_MS, "1.00000000", None)


def told(fed: Fed) -> list[tuple[str, int, int, int, str]]:
    """The ledger: state, seconds from the begin, klines, source."""
    entries = map(decode_gap, fed.published.of(FEED_GAPS.name))
    return [(one.state.value, one.from_ms // 1000 - BEGIN_S, one.to_ms // 1000 - BEGIN_S, one.klines, one.source) for one in entries]


@pytest.mark.parametrize(
    ("there", "outcome"),
    [
        (seconds(1, 2, 3, 4), ("refilled", 1, 3, 2, "topic")),
        (seconds(2, 3, 4), ("deferred", 1, 3, 0, "none")),  # the other producer missed a second too
        (set(), ("deferred", 1, 3, 0, "none")),
    ],
)
def test_a_newer_record_alone_does_not_fill_a_gap(there: set[int], outcome: tuple[object, ...]) -> None:
    """When a hold ends, what another producer went on without is deferred; what it published is refilled."""
    fed = Fed()
    fed.live(0, 3)
    assert fed.feed.look() == {}
    fed.now_s += 4
    assert fed.feed.look() == {SYMBOL: span(1, 3)[0]}
    deferred = fed.feed.expire([SYMBOL], {SYMBOL: tail(4)}, {SYMBOL: there})
    assert told(fed) == [("detected", 1, 3, 0, "none"), outcome]
    assert deferred == ([Deferred(SYMBOL, GivenUp(*span(1, 3), None))] if outcome[0] == "deferred" else [])
    assert fed.value("deferred_klines_total") == 2 * len(deferred)
    fed.live(5)
    assert fed.opened() == [0, 5]


def test_what_is_passed_in_part_is_told_once() -> None:
    """A gap that the topic's end is in the middle of is deferred as a whole, once, though its rest is given up apart."""
    fed = Fed()
    fed.live(0, 6)
    deferred = fed.feed.expire([SYMBOL], {SYMBOL: tail(2)}, {})
    assert [one.span for one in deferred] == [GivenUp(*span(1, 6), None)]
    assert told(fed)[1:] == [("deferred", 1, 6, 0, "none")]
    assert fed.value("deferred_klines_total") == 5


@pytest.mark.parametrize(
    ("tails", "there", "outcome"),
    [
        ({SYMBOL: tail(5)}, seconds(2, 3, 5), ("refilled", 2, 4, 2, "topic")),
        ({SYMBOL: tail(5)}, seconds(5), ("deferred", 2, 4, 0, "none")),  # killed before it could write that it went on
        ({SYMBOL: tail(2)}, set(), ("deferred", 2, 4, 0, "none")),
        ({}, set(), ("deferred", 2, 4, 0, "none")),
        ({SYMBOL: tail(1)}, set(), None),
    ],
)
def test_open_gaps_of_the_ledger(tails: Mapping[str, Tail], there: Container[int], outcome: tuple[object, ...] | None) -> None:
    """What was only detected goes on to be refilled if the topic ends before it; what was passed is there, or deferred."""
    fed = Fed(follow=False)
    deferred = fed.feed.follow([SYMBOL], tails, {SYMBOL: [span(2, 4)]}, {SYMBOL: there})
    assert told(fed) == ([outcome] if outcome else [])
    assert len(deferred) == (outcome is not None and outcome[0] == "deferred")


def test_a_gap_that_the_topic_ends_within_is_refilled_from_there() -> None:
    """A producer that was killed while it refilled goes on behind what it had published."""
    fed = Fed(follow=False)
    assert not fed.feed.follow([SYMBOL], {SYMBOL: tail(2)}, {SYMBOL: [span(2, 4)]}, {SYMBOL: seconds(2)})
    fed.live(4)
    fed.rest([1])
    assert fed.opened() == [3, 4]
    assert told(fed) == [("refilled", 2, 4, 2, "rest+topic")]

"""What servers say that they look at: what of it counts, and for how long."""

from collections.abc import Iterable

import pytest

from klinestream.market.codec import encode_event
from klinestream.market.events import SymbolsWatched
from klinestream.market.topics import WATCHED
from klinestream.runtime.kafka import Record
from klinestream.runtime.watched import COUNTS_MS, SERVERS_MOST, SYMBOLS_MOST, Watched, most_followed

NOW_MS = 1_790_000_000_000


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(server: str, symbols: Iterable[str] | None, time_ms: int = NOW_MS, key: bytes | None = None) -> Record:
    value = None if symbols is None else encode_event(SymbolsWatched(server, tuple(symbols), time_ms))
    return Record(WATCHED.name, server.encode() if key is None else key, value, time_ms)


def test_servers_add_up_and_the_newest_record_of_each_counts(clock: Clock) -> None:
    """What any server's clients look at counts, beside what always does; a later record replaces the server's own, none withdraws it."""
    watched = Watched(["XRPUSDT"], clock)
    watched.take(record("a", ["BTCUSDT", "ETHUSDT"]))
    watched.take(record("b", ["ETHUSDT", "SOLUSDT"]))
    assert watched.symbols() == {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}
    watched.take(record("a", ["BTCUSDT"]))
    watched.take(record("b", None))
    assert watched.symbols() == {"BTCUSDT", "XRPUSDT"}
    watched.count_always(["BNBUSDT"])
    assert watched.symbols() == {"BTCUSDT", "BNBUSDT"}


def test_a_record_counts_for_three_minutes(clock: Clock) -> None:
    """Then its symbols are nobody's any more; one that is older when it is read never counts, one from the future no longer than others."""
    watched = Watched(now_ms=clock)
    watched.take(record("a", ["BTCUSDT"], NOW_MS - 60_000))
    watched.take(record("ahead", ["ETHUSDT"], NOW_MS + 3_600_000))
    watched.take(record("old", ["SOLUSDT"], NOW_MS - COUNTS_MS))
    clock.now_ms = NOW_MS + COUNTS_MS - 60_001
    assert watched.symbols() == {"BTCUSDT", "ETHUSDT"}
    clock.now_ms += 1
    assert watched.symbols() == {"ETHUSDT"}
    clock.now_ms = NOW_MS + COUNTS_MS
    assert watched.symbols() == frozenset()


def test_the_same_set_is_the_same_object(clock: Clock) -> None:
    """A repetition changes nothing, so that whoever ranks by it need not rank anew."""
    watched = Watched(now_ms=clock)
    watched.take(record("a", ["BTCUSDT"]))
    before = watched.symbols()
    clock.now_ms += 60_000
    watched.take(record("a", ["BTCUSDT"], clock.now_ms))
    assert watched.symbols() is before


@pytest.mark.parametrize(
    "bad",
    [
        record("a", ["BTCUSDT"], key=b"\xff"),
        record("a", ["BTCUSDT"], key=b""),
        record("a", ["BTCUSDT"], key=b"b"),
        record("x" * 1000, ["BTCUSDT"]),
        Record(WATCHED.name, b"a", b"{", NOW_MS),
        Record(WATCHED.name, b"a", b'{"server":"a","symbols":[1],"time":1}', NOW_MS),
    ],
)
def test_what_cannot_be_read_is_passed_over(clock: Clock, bad: Record) -> None:
    """It is counted, and what was said before stays."""
    watched = Watched(now_ms=clock)
    watched.take(record("a", ["ETHUSDT"]))
    watched.take(bad)
    assert watched.passed_over == 1
    assert watched.symbols() == {"ETHUSDT"}


def test_it_is_bounded(clock: Clock) -> None:
    """Wildcards and garbage among the names are left out, very long lists are cut, and so many servers at a time count and no more."""
    watched = Watched(now_ms=clock)
    watched.take(record("a", ["*", "*USDT", "two words", "", "BTCUSDT"]))
    assert watched.symbols() == {"BTCUSDT"}
    watched.take(record("a", [f"S{number}" for number in range(SYMBOLS_MOST + 10)]))
    assert len(watched.symbols()) == SYMBOLS_MOST
    for number in range(SERVERS_MOST):
        watched.take(record(f"server-{number}", ["ETHUSDT"]))
    assert watched.passed_over == 1
    clock.now_ms += COUNTS_MS
    watched.take(record("late", ["SOLUSDT"], clock.now_ms))
    assert watched.symbols() == {"SOLUSDT"}


def test_of_very_many_names_the_most_followed_are_told() -> None:
    """Whatever clients ask for, a server tells of so many symbols at most, sorted, and of none that can't be one."""
    asked = {f"JUNK{number}": 1 for number in range(2 * SYMBOLS_MOST)} | {"BTCUSDT": 2, "*": 50}
    told = most_followed(asked)
    assert len(told) == SYMBOLS_MOST
    assert "BTCUSDT" in told
    assert "*" not in told
    assert list(told) == sorted(told)

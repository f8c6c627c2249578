"""What a producer that goes on finds in the topic of klines: the newest record of each symbol, and which seconds are there."""

from itertools import count, islice

import pytest

from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Record
from producer.tails import Tails
from tests.integration.running_producer import create_topics, empty_topics
from tests.klines import START_MS, kline
from tests.stack import TestBroker
from tests.topics import kafka, publish, record_of

OTHERS = 300
ROUNDS = 10
PLACE = 50  # in each round: neither of the chunks that are looked at first has it, if they are too small
BACK = "BTCUSDT"


def mates() -> list[str]:
    """Symbols of the same partition."""
    names = (f"X{number}USDT" for number in count())
    home = partition_of(BACK, KLINES.partitions)
    return list(islice((name for name in names if partition_of(name, KLINES.partitions) == home), OTHERS))


@pytest.fixture(scope="module")
def tails(broker: TestBroker) -> Tails:
    """Of a topic in which many symbols stand for some seconds, one of them in the first half alone."""
    create_topics(broker)
    empty_topics(broker)
    others = mates()

    def seconds() -> list[Record]:
        records = []
        for second in range(2 * ROUNDS):
            gone = second >= ROUNDS
            symbols = others if gone else [*others[:PLACE], BACK, *others[PLACE:]]
            records += [record_of(kline(symbol, second)) for symbol in symbols]
        return records

    publish(broker.bootstrap_servers, seconds())
    return Tails(kafka(broker.bootstrap_servers), "test")


def test_a_symbol_that_comes_back_alone_is_found(tails: Tails) -> None:
    """It goes on where it was, however few are looked for with it among those that are followed."""
    found = tails.newest([BACK], followed=OTHERS + 1)
    assert found[BACK].open_time_ms == START_MS + (ROUNDS - 1) * 1000


def test_seconds_that_are_there(tails: Tails) -> None:
    """Each second of a symbol from a time on that is in the topic, and no other; a symbol without any has none."""
    since = START_MS + (ROUNDS - 2) * 1000
    found = tails.opened({BACK: since, mates()[0]: since, "NOSUCHUSDT": since})
    assert found[BACK] == {since, since + 1000}
    assert found[mates()[0]] == {since + 1000 * number for number in range(ROUNDS + 2)}
    assert found["NOSUCHUSDT"] == set()

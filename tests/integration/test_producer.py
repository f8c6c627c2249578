"""The producer as a process of its own, between a small exchange and a real broker."""

import base64
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.partitions import partition_of
from klinestream.market.topics import DEAD_LETTERS, KLINES, PIPELINE_EVENTS
from klinestream.runtime.config import KafkaConfig
from klinestream.runtime.kafka import Reader, open_reader
from tests.eventually import eventually
from tests.integration.running_producer import SOON_S, START_S, RunningProducer, Since, create_topics, now_s, seconds
from tests.integration.small_exchange import SYMBOLS, SmallExchange, frame
from tests.ports import free_ports
from tests.stack import TestBroker


@pytest.fixture
def exchange() -> Iterator[SmallExchange]:
    opened = SmallExchange()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reader(broker: TestBroker) -> Iterator[Reader]:
    create_topics(broker)
    opened = open_reader(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka"), "test")
    yield opened
    opened.close()


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def config(request: pytest.FixtureRequest, broker: TestBroker, exchange: SmallExchange) -> dict[str, dict[str, Any]]:
    (port,) = free_ports(1)
    return {
        "kafka": {"bootstrap_servers": broker.bootstrap_servers, "client": request.param},
        "exchange": exchange.tables,
        "producer": {"metrics_port": port, "silence_s": 30.0, "backoff_first_s": 0.1, "backoff_most_s": 0.5},
        "log": {"format": "json"},
    }


@pytest.fixture
def start(tmp_path: Path, exchange: SmallExchange) -> Iterator[Callable[[dict[str, dict[str, Any]]], RunningProducer]]:
    """Start a producer and wait until it has subscribed to all."""
    started: list[RunningProducer] = []

    def start(config: dict[str, dict[str, Any]]) -> RunningProducer:
        producer = RunningProducer(tmp_path, config)
        started.append(producer)
        eventually(lambda: exchange.subscribed(*SYMBOLS), START_S, "the producer has subscribed")
        return producer

    yield start
    for producer in started:
        producer.end(signal.SIGKILL)


Start = Callable[[dict[str, dict[str, Any]]], RunningProducer]


def test_every_kline_arrives_once_in_order(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader
) -> None:
    """Every closed kline arrives once, in order, with last_trade_id carried; no repeat or open one does; garbage harms nothing."""
    producer = start(config)
    since, begin = Since(reader), now_s()
    for second, symbol in itertools.product(range(begin, begin + 20), SYMBOLS):
        exchange.say(symbol, frame(symbol, second, x=False), frame(symbol, second), frame(symbol, second))
        exchange.say(symbol, b"\x00garbage" if second % 2 else frame(symbol, second + 1, c=None))
    found = since.klines(20 * len(SYMBOLS))
    assert {symbol: seconds(lines) for symbol, lines in found.items()} == {symbol: list(range(begin, begin + 20)) for symbol in SYMBOLS}
    newest: int | None = None
    for line in found["BTCUSDT"]:
        newest = line.last_trade_id_within if line.last_trade_id_within != -1 else newest
        assert line.last_trade_id == newest
    letters = [orjson.loads(record.value or b"") for record in since.of(DEAD_LETTERS.name)]
    assert len(letters) == 20 * len(SYMBOLS)
    assert {letter["reason"] for letter in letters} == {"not JSON", "c: expected a decimal string such as 25.35190000, got 'None'"}
    assert base64.b64decode(next(letter["raw"] for letter in letters if letter["reason"] == "not JSON")) == b"\x00garbage"
    assert producer.metric("repeats_total") == producer.metric("frames_passed_over_total") == 20 * len(SYMBOLS)
    assert producer.metric("klines_published_total") == producer.metric("dead_letters_total") == 20 * len(SYMBOLS)
    assert producer.metric("gaps_total") == 0


def test_connections_by_partition(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """A connection carries the symbols of one partition, and no more streams than allowed; requests keep the exchange's pace."""
    config["producer"]["streams_per_connection"] = 1
    start(config)
    assert exchange.connections() == len(SYMBOLS)


def test_broken_connection_holds_back_no_other(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader
) -> None:
    """After a cut the connection comes back and goes on; what it missed is counted as a gap; other partitions miss nothing."""
    producer = start(config)
    since, begin = Since(reader), now_s()
    cut, whole = "BTCUSDT", "ETHUSDT"
    assert partition_of(cut, KLINES.partitions) != partition_of(whole, KLINES.partitions)
    for symbol in (cut, whole):
        exchange.say(symbol, frame(symbol, begin))
    since.klines(2)
    exchange.drop(cut)
    exchange.say(whole, frame(whole, begin + 1))
    eventually(lambda: producer.metric("reconnects_total") == 1 and exchange.subscribed(cut), SOON_S, "it has reconnected")
    for symbol in (cut, whole):
        exchange.say(symbol, frame(symbol, begin + 2))
    found = since.klines(5)
    assert seconds(found[whole]) == [begin, begin + 1, begin + 2]
    assert seconds(found[cut]) == [begin, begin + 2]
    assert (producer.metric("gaps_total"), producer.metric("missing_klines_total")) == (1, 1)


def test_silent_connection_is_replaced(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """A connection without data is replaced, even if it pings; the pong copies the ping's payload."""
    config["producer"]["silence_s"] = 1.0
    producer = start(config)
    began_s = time.monotonic()

    def replaced() -> bool:
        exchange.ping("BTCUSDT", b"1790000000000")
        return producer.metric("reconnects_total") >= 1

    eventually(replaced, SOON_S, "the silent connection is replaced")
    assert time.monotonic() - began_s >= 1.0
    assert set(exchange.pongs) == {b"1790000000000"}


def test_shutdown_leads_to_a_reconnect(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """After serverShutdown the producer connects anew and goes on without loss."""
    producer = start(config)
    since, begin = Since(reader), now_s()
    exchange.say("BTCUSDT", frame("BTCUSDT", begin), '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}')
    eventually(lambda: producer.metric("reconnects_total") >= 1 and exchange.subscribed("BTCUSDT"), SOON_S, "it has reconnected")
    exchange.say("BTCUSDT", frame("BTCUSDT", begin + 1))
    assert seconds(since.klines(2)["BTCUSDT"]) == [begin, begin + 1]


def test_signal_ends_it_cleanly(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """SIGTERM ends it within 5 s with code 0; all that it took is in the topic, and its start and stop are told."""
    since = Since(reader)
    producer = start(config)
    begin = now_s() - 500
    exchange.say("BTCUSDT", *(frame("BTCUSDT", second) for second in range(begin, begin + 500)))
    eventually(lambda: producer.metric("frames_total") >= 500, SOON_S, "all frames have come")
    assert producer.end() == 0
    assert seconds(since.klines(500)["BTCUSDT"]) == list(range(begin, begin + 500))
    events = eventually(lambda: len(found := since.of(PIPELINE_EVENTS.name)) >= 2 and found, SOON_S, "two events")
    assert [orjson.loads(record.value or b"")["event"] for record in events or ()] == ["started", "stopped"]


def test_killed_and_started_again(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """After SIGKILL and a new start it goes on; the hole is its downtime and nothing more."""
    producer = start(config)
    since, begin = Since(reader), now_s()
    for second in range(begin, begin + 5):
        exchange.say("BTCUSDT", frame("BTCUSDT", second))
    since.klines(5)
    producer.end(signal.SIGKILL)
    eventually(lambda: not exchange.subscribed("BTCUSDT"), SOON_S, "its connections are gone")
    exchange.say("BTCUSDT", frame("BTCUSDT", begin + 5))
    start(config)
    for second in range(begin + 6, begin + 10):
        exchange.say("BTCUSDT", frame("BTCUSDT", second))
    assert seconds(since.klines(9)["BTCUSDT"]) == [*range(begin, begin + 5), *range(begin + 6, begin + 10)]


def test_broker_that_restarts_costs_nothing(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader, broker: TestBroker
) -> None:
    """What comes while the broker is killed and started again arrives once and in order, as if nothing had been."""
    start(config)
    since, begin = Since(reader), now_s()
    exchange.say("BTCUSDT", frame("BTCUSDT", begin))
    since.klines(1)
    broker.kill()
    for second in range(begin + 1, begin + 30):
        exchange.say("BTCUSDT", frame("BTCUSDT", second))
    broker.start()
    eventually(lambda: len(since.of(KLINES.name)) >= 30, START_S, "all klines")
    assert seconds(since.klines(30)["BTCUSDT"]) == list(range(begin, begin + 30))


def test_health_tells_of_stale_data(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """/healthz is 200 with fresh data on every connection, and else names the connection."""
    config["producer"]["silence_s"] = 1.0
    producer = start(config)

    def fresh() -> bool:
        for symbol in SYMBOLS:
            exchange.say(symbol, frame(symbol, int(time.time())))
        return producer.health().status_code == 200

    eventually(fresh, SOON_S, "it is healthy")
    found = eventually(lambda: (now := producer.health()).status_code == 503 and now, SOON_S, "it is stale")
    assert found
    assert "connection 2.0: newest kline is" in found.text


def test_clock_is_compared(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """The offset to the exchange's clock is a metric, and one beyond a second is warned of."""
    exchange.offset_ms = 5000
    producer = start(config)
    eventually(lambda: abs(producer.metric("clock_offset_seconds") - 5.0) < 0.5, SOON_S, "the offset is measured")
    assert "our clock differs from the exchange's" in producer.log.read_text()


def test_unknown_symbols_end_it(config: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Symbols that the exchange doesn't list end it with one clear line that names them."""
    config["exchange"] = config["exchange"] | {"symbols": ["BTCUSDT", "NOPEUSDT"]}
    producer = RunningProducer(tmp_path, config)
    assert producer.wait(START_S) == 1
    assert producer.log.read_text().splitlines()[-1].endswith("or * alone; got NOPEUSDT")

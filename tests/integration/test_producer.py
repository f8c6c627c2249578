"""The producer as a process of its own, between a small exchange and a real broker."""

import base64
import itertools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.codec import decode_gap, kline_from
from klinestream.market.events import Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import DEAD_LETTERS, FEED_GAPS, KLINE_REPAIRS, KLINES, PIPELINE_EVENTS
from klinestream.runtime.control import ControlLog
from klinestream.runtime.kafka import Reader, open_reader
from klinestream.runtime.sections import KafkaConfig
from tests.eventually import eventually
from tests.integration.running_producer import SOON_S, START_S, RunningProducer, Since, create_topics, empty_topics, now_s, seconds
from tests.integration.small_exchange import SYMBOLS, SmallExchange, frame, kline
from tests.ports import free_ports
from tests.stack import TestBroker
from tests.topics import publish, record_of


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


@pytest.fixture
def client() -> str:
    """Which Kafka client the producer uses: what both must do is tested in test_kafka.py."""
    return "kafka-python"


@pytest.fixture
def config(client: str, broker: TestBroker, exchange: SmallExchange, reader: Reader) -> dict[str, dict[str, Any]]:
    assert reader.bounds(KLINES.name)
    empty_topics(broker)
    (port,) = free_ports(1)
    return {
        "kafka": {"bootstrap_servers": broker.bootstrap_servers, "client": client},
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


def ids(found: Sequence[Kline]) -> list[tuple[int | None, int | None]]:
    """First and newest trade of each."""
    return [(line.first_trade_id, line.last_trade_id) for line in found]


def ledger(since: Since) -> list[tuple[str, int, str, bool]]:
    """State, klines, source and proof of each entry so far."""
    found = [decode_gap(record.value or b"") for record in since.of(FEED_GAPS.name)]
    return [(entry.state.value, entry.klines, entry.source, entry.proved) for entry in found]


def entries(since: Since, count: int) -> list[tuple[str, int, str, bool]]:
    """The ledger once it has so many entries: they come into a topic of their own, before or after the klines."""
    eventually(lambda: len(ledger(since)) >= count, SOON_S, f"{count} entries of the ledger")
    return ledger(since)


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
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
    eventually(lambda: len(since.of(DEAD_LETTERS.name)) >= 20 * len(SYMBOLS), SOON_S, "what was garbage")
    letters = [orjson.loads(record.value or b"") for record in since.of(DEAD_LETTERS.name)]
    assert len(letters) == 20 * len(SYMBOLS)
    assert {letter["reason"] for letter in letters} == {"not JSON", "c: expected a decimal string such as 25.35190000, got 'None'"}
    assert base64.b64decode(next(letter["raw"] for letter in letters if letter["reason"] == "not JSON")) == b"\x00garbage"
    for name in ("repeats_total", "frames_passed_over_total", "klines_published_total", "dead_letters_total"):
        eventually(lambda name=name: producer.metric(name) == 20 * len(SYMBOLS), SOON_S, f"{name} as many as were sent")
    assert producer.metric("gaps_total") == 0


def test_connections_by_partition(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """A connection carries the symbols of one partition, and no more streams than allowed; requests keep the exchange's pace."""
    config["producer"]["streams_per_connection"] = 1
    start(config)
    assert exchange.connections() == len(SYMBOLS)


def test_broken_connection_holds_back_no_other(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader
) -> None:
    """After a cut the connection comes back, what it missed is refilled in order and on record; other partitions miss nothing."""
    producer = start(config)
    since, begin = Since(reader), now_s() // 3 * 3 + 1
    cut, whole = "BTCUSDT", "ETHUSDT"
    assert partition_of(cut, KLINES.partitions) != partition_of(whole, KLINES.partitions)
    for symbol in (cut, whole):
        exchange.say(symbol, frame(symbol, begin))
    since.klines(2)
    exchange.drop(cut)
    exchange.say(whole, *(frame(whole, begin + second) for second in (1, 2, 3)))
    eventually(lambda: producer.metric("reconnects_total") == 1 and exchange.subscribed(cut), SOON_S, "it has reconnected")
    for symbol in (cut, whole):
        exchange.say(symbol, frame(symbol, begin + 4))
    found = since.klines(10)
    assert seconds(found[cut]) == seconds(found[whole]) == [*range(begin, begin + 5)]
    assert [line.origin for line in found[cut]] == ["live", "rest", "rest", "rest", "live"]
    assert ids(found[cut]) == ids(found[whole])
    assert exchange.asked == [(cut, begin + 1, begin + 3)]
    assert (producer.metric("gaps_total"), producer.metric("missing_klines_total")) == (1, 3)
    assert entries(since, 2) == [("detected", 0, "none", False), ("refilled", 3, "rest", True)]


def test_quiet_seconds_need_no_rest(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """Where trade ids say that nothing traded in what was missed, it is derived, and REST isn't asked."""
    start(config)
    since, begin = Since(reader), now_s() // 3 * 3 + 2
    exchange.say("BTCUSDT", frame("BTCUSDT", begin), frame("BTCUSDT", begin + 2))
    found = since.klines(3)["BTCUSDT"]
    assert [(line.open_time_ms // 1000, line.origin) for line in found] == [(begin, "live"), (begin + 1, "derived"), (begin + 2, "live")]
    assert found[1].open == found[1].high == found[1].low == found[1].close == found[0].close
    assert exchange.asked == []
    assert entries(since, 1) == [("refilled", 1, "derived", True)]


def test_what_cannot_be_had_in_time_is_repaired(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader
) -> None:
    """The feed waits for a missing kline as long as it may, goes on, and repairs it when REST has it; all of it is on record."""
    config["producer"]["hold_s"] = 1.0
    producer = start(config)
    since, begin = Since(reader), now_s() // 3 * 3 + 1
    exchange.withheld = {begin + 2}
    exchange.say("BTCUSDT", frame("BTCUSDT", begin), *(frame("BTCUSDT", begin + 3 + second) for second in range(5)))
    eventually(lambda: len(since.of(KLINES.name)) == 6, SOON_S, "the feed has gone on")
    assert seconds(since.klines(6)["BTCUSDT"]) == [begin, *range(begin + 3, begin + 8)]
    eventually(lambda: producer.metric("backlog_spans") == 1, SOON_S, "what is missing is in the backlog")
    exchange.withheld = set()
    records = eventually(lambda: len(found := since.of(KLINE_REPAIRS.name)) == 2 and found, SOON_S, "both seconds are repaired")
    assert [orjson.loads(record.value or b"")["t"] // 1000 for record in records or ()] == [begin + 1, begin + 2]
    assert entries(since, 3) == [("detected", 0, "none", False), ("deferred", 0, "none", False), ("repaired", 2, "rest", True)]
    eventually(lambda: producer.metric("backlog_spans") == 0, SOON_S, "nothing is left to do")


def test_what_nobody_has_is_unfillable(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """Past the patience a span that the exchange doesn't have is on record as unfillable, with the reason."""
    config["producer"] |= {"hold_s": 0.5, "repair_patience_s": 1.0}
    start(config)
    since, begin = Since(reader), now_s() // 3 * 3 + 1
    exchange.withheld = {begin + 1}
    exchange.say("BTCUSDT", frame("BTCUSDT", begin), frame("BTCUSDT", begin + 3))
    assert entries(since, 3)[2] == ("unfillable", 1, "rest", False)


def test_silent_connection_is_replaced(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """A connection without data is replaced, even if it pings; the pong copies the ping's payload."""
    config["producer"]["silence_s"] = 1.0
    producer = start(config)
    first = len({partition_of(symbol, KLINES.partitions) for symbol in SYMBOLS})

    def opened_s() -> list[float]:
        """When each connection first asked for something."""
        return sorted(asked[0][0] for asked in list(exchange.requests.values()))

    def replaced() -> bool:
        exchange.ping("BTCUSDT", b"1790000000000")
        return producer.metric("reconnects_total") >= 1 and bool(exchange.pongs) and len(opened_s()) > first

    eventually(replaced, SOON_S, "the silent connection is replaced")
    assert opened_s()[first] - opened_s()[0] >= 1.0, "none is replaced before its silence is over"
    assert set(exchange.pongs) == {b"1790000000000"}


def test_shutdown_leads_to_a_hand_over(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """After serverShutdown the next session is opened first; the old one ends when the new one is proved to go on."""
    producer = start(config)
    since, begin = Since(reader), int(time.time()) - 2
    exchange.say("BTCUSDT", frame("BTCUSDT", begin))
    exchange.say("BTCUSDT", '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}')
    eventually(lambda: exchange.sessions("BTCUSDT") == 2, SOON_S, "both sessions are open")
    assert producer.metric("hand_overs_total") == 0
    exchange.say("BTCUSDT", frame("BTCUSDT", begin + 1))
    eventually(lambda: producer.metric("hand_overs_total") == 1 and exchange.sessions("BTCUSDT") == 1, SOON_S, "it was handed over")
    exchange.say("BTCUSDT", frame("BTCUSDT", begin + 2))
    assert seconds(since.klines(3)["BTCUSDT"]) == [begin, begin + 1, begin + 2]
    assert producer.metric("reconnects_total") == producer.metric("gaps_total") == 0
    assert 'outcome="proved"' in producer.scrape()


def test_session_is_handed_over_before_its_end(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """A session that comes near the exchange's limit is handed over, without a reconnect."""
    config["producer"]["session_s"] = 5.0
    producer = start(config)
    eventually(lambda: producer.metric("hand_overs_total") >= 1 and exchange.subscribed(*SYMBOLS), SOON_S, "it was handed over")
    assert producer.metric("reconnects_total") == 0


def test_two_producers_leave_no_hole(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader, tmp_path: Path
) -> None:
    """Two producers write the same records; after either is killed the other goes on, and readers that dedupe miss nothing."""
    first = start(config)
    (port,) = free_ports(1)
    (tmp_path / "second").mkdir()
    second = RunningProducer(tmp_path / "second", config | {"producer": config["producer"] | {"metrics_port": port}})
    try:
        eventually(lambda: exchange.sessions("BTCUSDT") == 2, START_S, "both have subscribed")
        since, begin = Since(reader), now_s()
        exchange.say("BTCUSDT", *(frame("BTCUSDT", begin + n) for n in range(5)))
        eventually(lambda: len(since.of(KLINES.name)) == 10, SOON_S, "both have published")
        first.end(signal.SIGKILL)
        eventually(lambda: exchange.sessions("BTCUSDT") == 1, SOON_S, "its connections are gone")
        exchange.say("BTCUSDT", *(frame("BTCUSDT", begin + n) for n in range(5, 10)))
        eventually(lambda: len(since.of(KLINES.name)) == 15, SOON_S, "the other goes on")
    finally:
        second.end(signal.SIGKILL)
    values = [record.value for record in since.of(KLINES.name)]
    assert len(set(values)) == 10
    assert [orjson.loads(value or b"")["t"] // 1000 for value in dict.fromkeys(values)] == [*range(begin, begin + 10)]


def test_what_another_producer_went_on_without_is_no_refill(
    config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader, broker: TestBroker
) -> None:
    """When a hold ends, seconds that another producer published are refilled; those that it missed too are deferred, and repaired."""
    config["producer"]["hold_s"] = 5.0
    start(config)
    since, begin = Since(reader), now_s() // 3 * 3 + 1
    exchange.withheld = {begin + 1, begin + 2}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        exchange.say(symbol, frame(symbol, begin), frame(symbol, begin + 3))
    entries(since, 2)
    others = [("BTCUSDT", second) for second in range(1, 5)] + [("ETHUSDT", second) for second in range(3, 5)]
    unknown = {"last_trade_id": None, "origin": "live"}
    publish(broker.bootstrap_servers, [record_of(kline_from(kline(symbol, begin + second) | unknown)) for symbol, second in others])
    assert sorted(entries(since, 4)[2:]) == [("deferred", 0, "none", False), ("refilled", 2, "topic", False)]
    exchange.withheld = set()
    assert entries(since, 5)[4] == ("repaired", 2, "rest", False)
    assert {record.key for record in since.of(KLINE_REPAIRS.name)} == {b"ETHUSDT"}


def test_symbols_change_while_it_runs(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, broker: TestBroker) -> None:
    """A symbol that is said to be unwanted leaves, one that is wanted again comes back; no session of others is touched."""
    config["exchange"] = config["exchange"] | {"refresh_s": 1.0}
    producer = start(config)
    open_before = exchange.connections()
    with ControlLog(KafkaConfig(bootstrap_servers=broker.bootstrap_servers)) as control:
        control.say("SOLUSDT", False, "test")
        eventually(lambda: not exchange.subscribed("SOLUSDT"), SOON_S, "it has left")
        control.withdraw("SOLUSDT")
        eventually(lambda: exchange.subscribed("SOLUSDT"), SOON_S, "it is back")
    assert exchange.connections() == open_before
    exchange.statuses["XRPUSDT"] = "BREAK"
    eventually(lambda: producer.metric("symbols") == len(SYMBOLS) - 1, SOON_S, "a halted one has left")
    exchange.statuses.clear()
    eventually(lambda: producer.metric("symbols") == len(SYMBOLS), SOON_S, "and is back")
    assert producer.metric("reconnects_total") == 0


def test_signal_ends_it_cleanly(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange, reader: Reader) -> None:
    """SIGTERM ends it with code 0; all that it took is in the topic, and its start and stop are told."""
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
    """After SIGKILL and a new start it goes on from the topic: what came in its downtime is refilled, nothing comes twice."""
    producer = start(config)
    since, begin = Since(reader), now_s() // 3 * 3
    for second in range(begin, begin + 5):
        exchange.say("BTCUSDT", frame("BTCUSDT", second))
    since.klines(5)
    producer.end(signal.SIGKILL)
    eventually(lambda: not exchange.subscribed("BTCUSDT"), SOON_S, "its connections are gone")
    start(config)
    for second in range(begin + 4, begin + 10):
        if second != begin + 5:
            exchange.say("BTCUSDT", frame("BTCUSDT", second))
    found = since.klines(10)["BTCUSDT"]
    assert seconds(found) == [*range(begin, begin + 10)]
    assert found[5].origin == "rest"
    eventually(lambda: ledger(since)[-1:] == [("refilled", 1, "rest", True)], SOON_S, "the ledger says so")


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

    def stale() -> bool:
        # Others may be so first: each was last heard of at a moment of its own.
        now = producer.health()
        return now.status_code == 503 and "connection 2.0: newest kline is" in now.text

    eventually(stale, SOON_S, "it is stale")


def test_clock_is_compared(config: dict[str, dict[str, Any]], start: Start, exchange: SmallExchange) -> None:
    """The offset to the exchange's clock is a metric, and one beyond a second is warned of."""
    exchange.offset_ms = 5000
    producer = start(config)
    eventually(lambda: abs(producer.metric("clock_offset_seconds") - 5.0) < 0.5, SOON_S, "the offset is measured")
    eventually(lambda: "our clock differs from the exchange's" in producer.log.read_text(), SOON_S, "it is warned of")


def test_unknown_symbols_end_it(config: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Symbols that the exchange doesn't list end it with one clear line that names them."""
    config["exchange"] = config["exchange"] | {"symbols": ["NOPEUSDT"]}
    producer = RunningProducer(tmp_path, config)
    assert producer.wait(START_S) == 1
    assert producer.log.read_text().splitlines()[-1].endswith("or * alone; got NOPEUSDT")

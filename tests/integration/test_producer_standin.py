"""The producer between the stand-in exchange and a real broker: what arrives is what the exchange's REST says."""

import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from klinestream.market import decimals
from klinestream.market.events import Kline
from klinestream.market.topics import DEAD_LETTERS
from klinestream.runtime.kafka import Reader, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.standin.faults import Drop, Garbage, Repeat, Shutdown, Silence
from klinestream.standin.garbage import Form
from tests.eventually import eventually
from tests.integration.running_producer import SOON_S, START_S, RunningProducer, Since, create_topics, empty_topics, seconds
from tests.integration.running_standin import RunningStandin, running
from tests.ports import free_ports
from tests.stack import TestBroker

SYMBOLS = 6


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def reader(broker: TestBroker) -> Iterator[Reader]:
    create_topics(broker)
    empty_topics(broker)
    opened = open_reader(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka"), "test")
    yield opened
    opened.close()


@pytest.fixture
def start(broker: TestBroker, standin: RunningStandin, tmp_path: Path) -> Iterator[Callable[[], RunningProducer]]:
    """Start a producer of all symbols and wait until its klines flow."""
    started: list[RunningProducer] = []

    def start() -> RunningProducer:
        (port,) = free_ports(1)
        config: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap_servers": broker.bootstrap_servers},
            "exchange": {"websocket_url": standin.ws, "rest_url": standin.http, "symbols": ["*"]},
            "producer": {"metrics_port": port, "hold_s": 30.0, "silence_s": 3.0, "backoff_first_s": 0.1, "backoff_most_s": 0.5},
        }
        producer = RunningProducer(tmp_path, config)
        started.append(producer)
        eventually(lambda: producer.metric("klines_published_total") >= SYMBOLS, START_S, "klines flow")
        return producer

    yield start
    standin.client.clear()
    for producer in started:
        producer.end(signal.SIGKILL)


def as_rest(standin: RunningStandin, symbol: str, first_s: int, last_s: int) -> list[list[Any]]:
    """The exchange's own klines from one second to another, both included."""
    query: dict[str, str | int] = {
        "symbol": symbol,
        "interval": "1s",
        "startTime": first_s * 1000,
        "endTime": last_s * 1000,
        "limit": 1000,
    }
    rows: list[list[Any]] = httpx.get(f"{standin.http}/api/v3/klines", params=query, trust_env=False).json()
    return rows


def row(kline: Kline) -> list[Any]:
    """A kline as REST writes it."""
    show = decimals.show
    prices = [show(value) for value in (kline.open, kline.high, kline.low, kline.close, kline.base_volume)]
    taker = [show(kline.taker_base_volume), show(kline.taker_quote_volume)]
    return [kline.open_time_ms, *prices, kline.close_time_ms, show(kline.quote_volume), kline.trades, *taker, "0"]


def holes(lines: Sequence[Kline]) -> int:
    """How many seconds are missing between the first and the last."""
    found = seconds(lines)
    assert found == sorted(set(found)), "in order, each once"
    return found[-1] - found[0] + 1 - len(found)


def assert_as_rest(standin: RunningStandin, lines: Sequence[Kline]) -> None:
    """Each kline is what the exchange's REST says of that second."""
    (symbol,) = {line.symbol for line in lines}
    said = {found[0]: found for found in as_rest(standin, symbol, seconds(lines)[0], seconds(lines)[-1])}
    assert [row(line) for line in lines] == [said[line.open_time_ms] for line in lines]


def carried(lines: Sequence[Kline]) -> bool:
    """Whether last_trade_id is each second's own last trade, or through quiet seconds the one before."""
    return all(
        line.last_trade_id == (line.last_trade_id_within if line.trades else before.last_trade_id)
        for before, line in itertools.pairwise(lines)
    )


def test_every_kline_is_the_exchange_s(start: Callable[[], RunningProducer], standin: RunningStandin, reader: Reader) -> None:
    """With repeats and garbage of every form among the frames, every kline arrives once, in order, as REST has it."""
    since = Since(reader)
    producer = start()
    for form in Form:
        letters = producer.metric("dead_letters_total")
        standin.client.inject(Repeat(seconds=60))
        standin.client.inject(Garbage(seconds=60, form=form))
        eventually(lambda letters=letters: producer.metric("dead_letters_total") > letters, SOON_S, f"garbage of the form {form}")
        standin.client.clear()
    assert producer.end() == 0
    found = since.klines()
    assert len(found) == SYMBOLS
    for lines in found.values():
        assert holes(lines) == 0
        assert len(lines) > len(Form)
        assert carried(lines)
        assert_as_rest(standin, lines)
    assert len(since.of(DEAD_LETTERS.name)) >= len(Form)


def test_broken_connections_leave_no_hole(start: Callable[[], RunningProducer], standin: RunningStandin, reader: Reader) -> None:
    """After each fault of every connection the klines flow again, what was missed is refilled, and all of it is as REST has it."""
    since = Since(reader)
    producer = start()
    connections = producer.metric("connections")

    def replaced() -> float:
        return producer.metric("reconnects_total") + producer.metric("hand_overs_total")

    for fault in (Drop(), Shutdown(seconds=1), Silence(seconds=60)):
        before, more = replaced(), producer.metric("klines_published_total") + 4 * SYMBOLS
        standin.client.inject(fault)
        eventually(lambda before=before: replaced() >= before + connections, SOON_S, f"all have been replaced after {fault}")
        standin.client.clear()
        eventually(lambda more=more: producer.metric("klines_published_total") >= more, SOON_S, f"four more seconds after {fault}")
        eventually(lambda: filled(producer), SOON_S, f"nothing is missing after {fault}")
    assert producer.end() == 0
    found = since.klines()
    assert len(found) == SYMBOLS
    for lines in found.values():
        assert holes(lines) == 0
        assert carried(lines)
        assert_as_rest(standin, lines)


def filled(producer: RunningProducer) -> bool:
    """Every kline that was missing has been refilled, none was deferred."""
    assert producer.metric("deferred_klines_total") == 0
    return producer.metric("missing_klines_total") == producer.metric("refilled_klines_total")

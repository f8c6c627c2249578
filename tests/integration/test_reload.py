"""SIGHUP to the producer while klines flow from a real stand-in into a real broker."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from klinestream.runtime.kafka import Reader, open_reader
from klinestream.runtime.sections import KafkaConfig
from tests.eventually import eventually
from tests.integration.running_producer import SOON_S, START_S, RunningProducer, Since, _toml, create_topics, empty_topics, seconds
from tests.integration.running_standin import RunningStandin, running
from tests.ports import free_ports
from tests.stack import TestBroker

Tables = dict[str, dict[str, Any]]
# Two partitions, two symbols each: the first and the last of them share one, and so do the others.
NAMES = ["DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def reader(broker: TestBroker) -> Iterator[Reader]:
    create_topics(broker)
    empty_topics(broker)
    opened = open_reader(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka"), "test")
    yield opened
    opened.close()


@pytest.fixture
def tables(broker: TestBroker, standin: RunningStandin) -> Tables:
    """Three of the symbols, all of a partition on one connection."""
    (port,) = free_ports(1)
    return {
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "exchange": {"websocket_url": standin.ws, "rest_url": standin.http, "symbols": NAMES[:-1]},
        "producer": {"metrics_port": port, "reconcile_s": 0},
    }


class Reloaded:
    """A producer whose configuration the test changes."""

    def __init__(self, folder: Path, tables: Tables) -> None:
        self.producer = RunningProducer(folder, tables)
        self._file = folder / "klinestream.toml"
        eventually(lambda: self.producer.metric("klines_published_total") >= len(NAMES), START_S, "klines flow")

    def hang_up(self, text: str, outcome: str) -> None:
        """Write another file, send SIGHUP, and wait until that is over."""
        before = self._outcomes().get(outcome, 0)
        self._file.write_text(text)
        self.producer._process.send_signal(signal.SIGHUP)
        eventually(lambda: self._outcomes().get(outcome, 0) > before, SOON_S, outcome)

    def _outcomes(self) -> dict[str, float]:
        lines = [line for line in self.producer.scrape().splitlines() if line.startswith("klinestream_producer_reloads_total{")]
        return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def more(self, klines: int) -> None:
        """Wait for so many further klines."""
        newest = self.producer.metric("klines_published_total") + klines
        eventually(lambda: self.producer.metric("klines_published_total") >= newest, SOON_S, f"{klines} more klines")

    def log(self) -> str:
        return self.producer.log.read_text()


@pytest.fixture
def start(tmp_path: Path, tables: Tables) -> Iterator[Callable[[], Reloaded]]:
    started: list[Reloaded] = []

    def start() -> Reloaded:
        started.append(Reloaded(tmp_path, tables))
        return started[-1]

    yield start
    for one in started:
        one.producer.end(signal.SIGKILL)


def assert_undisturbed(producer: RunningProducer, since: Since, names: list[str]) -> None:
    """Of each of these symbols every second once and in order; nothing was missed, asked of REST or published twice."""
    assert producer.metric("gaps_total") == producer.metric("rest_answers_total") == 0
    assert producer.end() == 0
    found = since.klines()
    for name in names:
        opened = seconds(found[name])
        assert opened == list(range(opened[0], opened[0] + len(opened)))


def test_symbols_and_connections_change_without_a_break(start: Callable[[], Reloaded], tables: Tables, reader: Reader) -> None:
    """Another list and fewer streams a connection: symbols that stay go on as if nothing had been, and no REST is asked."""
    since = Since(reader)
    reloaded = start()
    producer = reloaded.producer
    before = producer.metric("connections")
    tables["exchange"]["symbols"] = NAMES[1:]
    tables["producer"] |= {"streams_per_connection": 1, "session_s": 600.0, "name": "other"}
    reloaded.hang_up(_toml(tables), "applied")
    eventually(lambda: producer.metric("connections") == len(NAMES) - 1, SOON_S, "a connection for each symbol")
    assert producer.metric("hand_overs_total") == len(NAMES) - 1 > before
    assert "a restart, their former values go on keys=producer.name" in reloaded.log()
    reloaded.more(2 * len(NAMES))
    assert producer.metric("symbols") == len(NAMES) - 1
    # And back: connections are put together again.
    del tables["producer"]["streams_per_connection"]
    reloaded.hang_up(_toml(tables), "applied")
    reloaded.more(2 * len(NAMES))
    assert_undisturbed(producer, since, NAMES[1:-1])


def test_what_cannot_be_used_changes_nothing(start: Callable[[], Reloaded], tables: Tables, reader: Reader) -> None:
    """A faulty file, and a list that could follow nothing, are refused with one clear line; a dead address is not gone to; klines go on."""
    since = Since(reader)
    reloaded = start()
    reloaded.hang_up("[producer]\nhold_s = 'long'\n[exchange\n", "refused")
    reloaded.hang_up(_toml(tables | {"exchange": tables["exchange"] | {"symbols": ["NOPEUSDT"]}}), "refused")
    told = [line for line in reloaded.log().splitlines() if "configuration not reloaded" in line]
    assert len(told) == 2
    assert "expected TOML in klinestream.toml" in told[0]
    assert "got NOPEUSDT" in told[1]
    (dead,) = free_ports(1)
    tables["exchange"]["websocket_url"] = f"ws://127.0.0.1:{dead}"
    tables["producer"]["hand_over_s"] = 1.0
    reloaded.hang_up(_toml(tables), "without_connections")
    assert "reloaded but for the connections" in reloaded.log()
    reloaded.more(2 * len(NAMES))
    assert reloaded.producer.metric("symbols") == len(NAMES) - 1
    assert 'hand_overs_total{outcome="proved"}' not in reloaded.producer.scrape()
    assert_undisturbed(reloaded.producer, since, NAMES[:-1])

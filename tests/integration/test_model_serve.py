"""`klinestream model serve` on a real broker: live equals offline, whatever kills it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.events import Indicators
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import DEAD_LETTERS, INDICATORS, PREDICTIONS
from klinestream.models.offline import forecasts
from klinestream.models.panel import panel_of, task_of
from klinestream.models.storage import KINDS, Stored, save
from klinestream.models.training import header_of
from klinestream.replay.features.labels import Horizon
from klinestream.runtime.config import PREFIX
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin
from tests.eventually import eventually
from tests.feature_rows import as_records, walk
from tests.stack import TestBroker
from tests.topics import kafka

WITHIN_S = 60.0
STOP_S = 20.0
REPEATS_MOST = 62 * 6  # moments and symbols
MINUTES = 420
# Times of now: the topics forget older ones.
START_MS = (int(time.time()) // 60 - MINUTES - 10) * MINUTE_MS
ROWS = walk(8, MINUTES, symbols=6, start_ms=START_MS)
PREFIXES = (f"model{number}." for number in count())


@dataclass
class Model:
    """A model's process over topics of its own, that can be started, killed and asked what it said."""

    stored: Stored
    folder: Path
    kafka: KafkaConfig
    process: subprocess.Popen[bytes] | None = None
    published: list[Indicators] = field(default_factory=list)

    def start(self) -> None:
        own = {"KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers, "KAFKA__CLIENT": "confluent-kafka"}
        own |= {"KAFKA__TOPIC_PREFIX": self.kafka.topic_prefix, "MODELS__METRICS_PORT": "0"}
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment |= {PREFIX + key: value for key, value in own.items()}
        command = [sys.executable, "-m", "klinestream.cli.main", "model", "serve", "--model", str(self.folder), "--from", "1d"]
        with (self.folder.parent / "serve.log").open("ab") as output:
            self.process = subprocess.Popen(command, cwd=self.folder.parent, env=environment, stdout=output, stderr=output)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def publish(self, records: list[Indicators]) -> None:
        publisher = open_publisher(self.kafka, "test-indicators")
        for one in records:
            publisher.publish(Record(INDICATORS.name, one.symbol.encode(), encode_event(one), one.close_time_ms))
        publisher.close(WITHIN_S)
        self.published += records

    def read(self, topic: str = PREDICTIONS.name) -> list[Record]:
        reader = open_reader(self.kafka, "test-predictions")
        bounds = reader.bounds(topic)
        reader.assign({(topic, partition): first for partition, (first, _) in bounds.items()})
        wanted, found = sum(end - first for first, end in bounds.values()), list[Record]()
        eventually(lambda: len(found.extend(reader.poll(0.1)) or found) >= wanted, WITHIN_S, "all is read")  # type: ignore[func-returns-value]
        reader.close()
        return found

    def said(self) -> dict[tuple[object, ...], dict[str, object]]:
        """Identity → value. Fails where one of them has two values."""
        found: dict[tuple[object, ...], dict[str, object]] = {}
        for record in self.read():
            value = orjson.loads(record.value or b"")
            identity = tuple(value[name] for name in ("s", "i", "t", "model", "inputs", "since", "revision"))
            assert found.setdefault(identity, value) == value
            assert (record.key, record.timestamp_ms) == (str(value["s"]).encode(), value["T"])
        return found

    def equals_offline(self) -> bool:
        """Whether all that follows from what was published is said, to the last bit, and nothing else."""
        times = {(one.symbol, one.open_time_ms) for one in self.published}
        right = {row for row in forecasts(self.stored, ROWS).rows() if (row[0], row[1]) in times}
        found = {(value["s"], value["t"], value["prediction"], value["probability"]) for value in self.said().values()}
        assert found <= right
        return found == right and bool(right)


@pytest.fixture
def serving(broker: TestBroker, tmp_path: Path) -> Iterator[Callable[[str], Model]]:
    made: list[Model] = []

    def of(kind: str) -> Model:
        connection = kafka(broker.bootstrap_servers).model_copy(update={"topic_prefix": next(PREFIXES)})
        with TopicAdmin(connection) as admin:
            admin.create([INDICATORS, PREDICTIONS, DEAD_LETTERS])
        panel = panel_of(ROWS, task_of(ROWS, "1m", Horizon.of("10m", "1m")))
        stored = Stored.of(header_of(panel, kind), KINDS[kind].train(panel))
        save(tmp_path / kind, stored, "", {})
        made.append(Model(stored, tmp_path / kind, connection))
        return made[-1]

    yield of
    for model in made:
        if model.process is not None and model.process.poll() is None:
            model.process.kill()
            model.process.wait()


def survives(model: Model) -> None:
    records = as_records(ROWS)
    third = len(records) // 3
    model.publish(records[: 2 * third])
    model.start()
    eventually(model.read, WITHIN_S, "something is said")
    model.end(signal.SIGKILL)
    model.start()
    eventually(model.equals_offline, WITHIN_S, "all is said that followed by then")
    model.publish(records[2 * third :])
    eventually(model.equals_offline, WITHIN_S, "all is said")
    # What was said again after the restart: no more than from where it went on.
    assert len(model.read()) - len(model.said()) <= REPEATS_MOST
    model.publish([replace(records[-1], revision=7)])
    eventually(lambda: any(one["revision"] == 7 for one in model.said().values()), WITHIN_S, "a repair leads to a revision")
    assert model.equals_offline()
    assert model.end() == 0


def test_live_predictions_are_those_of_offline_through_a_kill(serving: Callable[[str], Model]) -> None:
    """To the last bit; no identity has two values, whenever it is killed with -9, and a repaired row has its revision."""
    survives(serving("linear"))


def test_what_is_no_record_of_indicators_goes_to_the_dead_letters(serving: Callable[[str], Model]) -> None:
    """With where it came from and why; what follows it is predicted from."""
    model = serving("linear")
    publisher = open_publisher(model.kafka, "test-garbage")
    publisher.publish(Record(INDICATORS.name, b"COIN0USDT", b"garbage", START_MS))
    publisher.close(WITHIN_S)
    model.publish([one for one in as_records(ROWS) if one.symbol == "COIN0USDT"])
    model.start()
    eventually(model.equals_offline, WITHIN_S, "all is said")
    letter = orjson.loads(model.read(DEAD_LETTERS.name)[0].value or b"")
    assert (letter["reason"], letter["source"], letter["offset"]) == ("not JSON", INDICATORS.name, 0)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["boosting", "graph"])
def test_so_are_those_of_the_extra(serving: Callable[[str], Model], kind: str) -> None:
    """LightGBM's boosters, and a graph in which symbols hear each other."""
    survives(serving(kind))

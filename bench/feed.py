"""What breaks and planned ends cost the feed at 1,400 symbols: one connection of four is cut, falls silent, then all are handed over."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import orjson

from bench.ages import Ints, data_ages
from bench.market import SYMBOLS
from bench.report import Report, percentiles
from klinestream.cli import up
from klinestream.market.events import SECOND_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES
from klinestream.runtime.config import Config, load
from klinestream.runtime.kafka import Record
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from klinestream.standin.client import StandinClient
from klinestream.standin.faults import Drop, Fault, Shutdown, Silence
from producer.streams import stream_name
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, broker_with_topics
from tests.topics import Topic

_START_S = 60.0
_WARM_S = 30.0
_WATCHED_S = 25.0
_NOTICE_S = 10.0  # from serverShutdown to the close
_FRESH_MS = 2500
_CUT = "BTCUSDT"  # and with it all of its partition
_BROKEN = partition_of(_CUT, KLINES.partitions)


def measure(report: Report, folder: Path) -> None:
    """Once with each Kafka client."""
    for client in ("kafka-python", "confluent-kafka"):
        with ExitStack() as stack:
            broker = stack.enter_context(broker_with_topics(folder / client))
            config = _config(broker, client)
            stack.enter_context(_running("standin", config))
            stack.enter_context(_running("producer", config))
            standin = stack.enter_context(StandinClient(config.exchange.rest_url))
            eventually(lambda: _metric(config, "klines_published_total") > SYMBOLS, _START_S, "klines flow")  # noqa: B023  # called at once
            time.sleep(_WARM_S)
            _one(report, client, config, standin)
            _standby(report, client, config)
    report.note(
        f"{SYMBOLS:,} symbols on {KLINES.partitions} connections; ages are those of klines in the topic, by when they were published"
    )
    report.note("p50, p99, max: data age of the symbols that the struck connection doesn't carry, ms")
    report.note("caught up: seconds until every symbol that it does carry is younger than 2.5 s again; silence is noticed after 5 s")


def _config(broker: TestBroker, client: str) -> Config:
    standin, metrics = free_ports(2)
    stack = {"broker_port": broker.port, "standin_port": standin}
    config = up.effective(
        load(None, stack=stack, producer={"metrics_port": metrics}, candles={"history": 0}, log={"level": "warning"}),
        up.Options(symbols=str(SYMBOLS)),
    )
    kafka = config.kafka.model_copy(update={"client": client})
    return config.model_copy(update={"kafka": kafka})


@contextmanager
def _running(command: str, config: Config) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([scripts() / "klinestream", command], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)


def _metric(config: Config, name: str) -> float:
    try:
        text = httpx.get(f"http://127.0.0.1:{config.producer.metrics_port}/metrics", trust_env=False).text
    except httpx.TransportError:
        return 0.0
    full = f"klinestream_producer_{name}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == full)


def _one(report: Report, client: str, config: Config, standin: StandinClient) -> None:
    stages: dict[str, Fault | None] = {
        "undisturbed": None,
        "one connection cut": Drop(streams=stream_name(_CUT)),
        "one connection falls silent": Silence(streams=stream_name(_CUT), seconds=_WATCHED_S),
        "all handed over": Shutdown(seconds=_NOTICE_S),
    }
    spans, refilled = [], [0.0]
    for fault in stages.values():
        began_ms = _now_ms()
        if fault is not None:
            standin.inject(fault)
        time.sleep(_WATCHED_S)
        spans.append((began_ms, _now_ms() - SECOND_MS))
        refilled.append(_metric(config, "refilled_klines_total"))
    topic = Topic(config.kafka.bootstrap_servers, KLINES.name)
    records = topic.read()
    topic.close()
    for number, (what, span) in enumerate(zip(stages, spans, strict=True)):
        ages = _ages(records, *span)
        others = [age for symbol, age in ages.items() if partition_of(symbol, KLINES.partitions) != _BROKEN]
        mine = np.stack([age for symbol, age in ages.items() if partition_of(symbol, KLINES.partitions) == _BROKEN])
        stale = np.flatnonzero((mine > _FRESH_MS).any(axis=0))
        report.row(
            f"{client}: {what}",
            **percentiles(np.concatenate(others)),
            refilled=int(refilled[number + 1] - refilled[number]),
            caught_up_s=(int(stale[-1]) + 1) / 10 if len(stale) else 0.0,
        )
    report.row(f"{client}: all of it", repeats_in_the_topic=_repeats(records), hand_overs=int(_metric(config, "hand_overs_total")))


def _standby(report: Report, client: str, config: Config) -> None:
    """A second producer beside the first; then it is killed. Nobody takes anything over, so either may die."""
    (port,) = free_ports(1)
    other = config.model_copy(update={"producer": config.producer.model_copy(update={"metrics_port": port})})
    with _running("producer", other) as second:
        eventually(lambda: _metric(other, "klines_published_total") > SYMBOLS, _START_S, "both produce")
        time.sleep(_WATCHED_S)
        began_ms = _now_ms()
        second.kill()
        time.sleep(_WATCHED_S)
    topic = Topic(config.kafka.bootstrap_servers, KLINES.name)
    ages = _ages(topic.read(), began_ms, _now_ms() - SECOND_MS)
    topic.close()
    report.row(f"{client}: one of two producers killed, age of all symbols", **percentiles(np.concatenate(list(ages.values()))))


def _ages(records: list[Record], began_ms: int, ended_ms: int) -> dict[str, Ints]:
    return data_ages(records, "s", "T", began_ms=began_ms, ended_ms=ended_ms)[1]


def _all(ages: dict[str, Ints]) -> Ints:
    return np.concatenate(list(ages.values()))


def _repeats(records: list[Record]) -> int:
    """Records whose symbol and second stand in the topic already."""
    seen = Counter((record.key, orjson.loads(record.value or b"")["t"]) for record in records)
    return sum(count - 1 for count in seen.values())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

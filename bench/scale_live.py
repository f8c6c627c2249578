"""What each part spends, live, at some number of symbols: each job on a Flink cluster of its own, as it is deployed.

    stand-in ─► producer ─► broker ─┬─► windows job      job manager, task manager, Python workers
                                    ├─► candles job      the same
                                    ├─► server           nobody connected: what reading costs
                                    ├─► repair           waits for what came late
                                    └─► archive          every topic

A minute that holds one end of a minute is measured, after the JVMs have warmed up. History is off: it comes once, not all day.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from bench.report import Report
from klinestream.archive.files import Files, current
from klinestream.cli import up
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import KLINES, TOPICS, WINDOWS
from klinestream.runtime.config import Config, load
from klinestream.runtime.kafka import open_reader
from klinestream.stack.commands import configuration, script_of
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, TestFlink, broker_with_topics
from tests.topics import kafka

CLIENT = "confluent-kafka"
WARM_S = 30.0
MEASURED_S = 60.0
_EDGE_S = 5  # a minute's end is worked off by then: none is cut in two
_START_S = 120.0
_STOP_S = 30.0
_JOBS = ("windows", "candles")
_PARTS = ("standin", "server", "archive", "repair", "producer")


@dataclass(slots=True)
class Live:
    """What runs: the configuration, the broker, and the processes of each part."""

    config: Config
    broker: TestBroker
    parts: dict[str, list[psutil.Process]] = field(default_factory=dict)
    archive: "subprocess.Popen[bytes] | None" = None


@dataclass(frozen=True, slots=True)
class Look:
    """What had been spent and stored by a moment."""

    at_s: float
    cpu_s: Mapping[str, float]
    stored: Mapping[str, tuple[int, int]]
    """Topic → records so far, bytes of its log."""


def measure(report: Report, folder: Path, symbols: int) -> None:
    """One number of symbols."""
    with live(folder, symbols) as running_parts:
        config = running_parts.config
        reader = open_reader(kafka(config.kafka.bootstrap_servers), "bench-klines")
        eventually(lambda: sum(end for _, end in reader.bounds(WINDOWS.name).values()) > 4 * symbols, _START_S, "windows flow")
        reader.close()
        time.sleep(WARM_S)
        if time.time() % 60 < _EDGE_S:
            time.sleep(_EDGE_S)
        before = _look(running_parts)
        time.sleep(MEASURED_S - _EDGE_S)
        memory = _memory(running_parts)
        time.sleep(max(0.0, before.at_s + MEASURED_S - time.monotonic()))
        after = _look(running_parts)
        _tell(report, symbols, before, after, memory)
        _compact(running_parts)
        _archived(report, symbols, Path(config.archive.url))


@contextlib.contextmanager
def live(folder: Path, symbols: int) -> Iterator[Live]:
    """Everything, in the order in which nothing has to catch up."""
    with ExitStack() as stack:
        broker = stack.enter_context(broker_with_topics(folder / "broker"))
        found = Live(config_of(folder, broker, symbols, CLIENT), broker)
        found.parts["broker"] = [psutil.Process(broker.pid)]
        clusters = {job: TestFlink(folder / job, task_slots=2) for job in _JOBS}
        submitting = [threading.Thread(target=_submitted, args=(found, job, cluster)) for job, cluster in clusters.items()]
        for cluster in clusters.values():
            stack.callback(cluster.stop)
        for thread in submitting:
            thread.start()
        for thread in submitting:
            thread.join()
        for part in _PARTS:
            options = ("--follow",) if part == "repair" else ()
            started = stack.enter_context(process(part, found.config, options))
            found.parts[part] = [psutil.Process(started.pid)]
            found.archive = started if part == "archive" else found.archive
            until_up(part, found.config)
        assert len(found.parts) == 1 + len(_PARTS) + 3 * len(_JOBS), f"expected every part to run, found {', '.join(found.parts)}"
        yield found


def _submitted(found: Live, job: str, cluster: TestFlink) -> None:
    cluster.start()
    cluster.submit(script_of(job), env=configuration(found.config))
    manager = psutil.Process(cluster.task_manager_pid)
    found.parts[f"{job}: job manager"] = [psutil.Process(cluster.job_manager_pid)]
    found.parts[f"{job}: task manager"] = [manager]
    found.parts[f"{job}: Python"] = manager.children(recursive=True)


def config_of(folder: Path, broker: TestBroker, symbols: int, client: str) -> Config:
    """The configuration of all parts, on free ports."""
    standin, server, producer, archive, repair = free_ports(5)
    given = load(
        None,
        kafka={"client": client},
        stack={"broker_port": broker.port, "standin_port": standin},
        server={"port": server, "observe": [], "flink_url": ""},
        producer={"metrics_port": producer},
        repair={"metrics_port": repair},
        candles={"history": 0},
        archive={"url": str(folder / "archive"), "metrics_port": archive, "waiting_mib": 128},
        log={"level": "warning"},
    )
    return up.effective(given, up.Options(symbols=str(symbols)))


@contextlib.contextmanager
def process(command: str, config: Config, options: tuple[str, ...] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """A part that runs as long as the context lasts."""
    started = subprocess.Popen([scripts() / "klinestream", command, *options], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            started.kill()


def until_up(part: str, config: Config) -> None:
    """Return when it answers; of those that listen."""
    url = {
        "standin": f"{config.exchange.rest_url}/api/v3/time",
        "server": f"http://127.0.0.1:{config.server.port}/healthz",
    }.get(part)
    if url is not None:
        eventually(lambda: _answers(url), _START_S, f"{part} answers")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _look(found: Live) -> Look:
    cpu_s = {part: sum(map(_spent_s, each)) for part, each in found.parts.items()}
    reader = open_reader(kafka(found.config.kafka.bootstrap_servers), "bench-sizes")
    data = found.broker.layout.kafka / "data"
    stored = {
        topic.name: (
            sum(end for _, end in reader.bounds(topic.name).values()),
            sum(file.stat().st_size for file in data.glob(f"{topic.name}-[0-9]*/*.log")),
        )
        for topic in TOPICS
    }
    reader.close()
    return Look(time.monotonic(), cpu_s, stored)


def _spent_s(one: psutil.Process) -> float:
    spent = one.cpu_times()
    return float(spent.user + spent.system)


def _memory(found: Live) -> dict[str, int]:
    """Part → proportional share of what its processes hold, bytes."""
    return {part: sum(one.memory_full_info().pss for one in each) for part, each in found.parts.items()}


def _tell(report: Report, symbols: int, before: Look, after: Look, memory: Mapping[str, int]) -> None:
    seconds = after.at_s - before.at_s
    for part, spent_s in after.cpu_s.items():
        cpu = (spent_s - before.cpu_s[part]) / seconds * SECOND_MS
        report.row(f"{symbols} symbols: {part}", symbols=symbols, cpu_ms_a_second=round(cpu, 1), mb=round(memory[part] / 1e6, 1))
    for topic, (records, size) in after.stored.items():
        came, grew = records - before.stored[topic][0], size - before.stored[topic][1]
        if came:
            told = {"records": came, "a_symbol_and_minute": round(came / symbols / (seconds * SECOND_MS / MINUTE_MS), 2)}
            report.row(f"{symbols} symbols: topic {topic}", symbols=symbols, **told, bytes_a_record=round(grew / came, 1))
    klines = after.stored[KLINES.name][0] - before.stored[KLINES.name][0]
    assert klines > 0.9 * symbols * seconds, f"expected a kline a symbol a second, got {klines} in {seconds:.0f} s: a part was not up to it"


def _compact(found: Live) -> None:
    """Let the archive write what waits, and make of small files what they become when their day is over."""
    assert found.archive is not None
    found.archive.send_signal(signal.SIGTERM)
    found.archive.wait(_STOP_S)
    subprocess.run([scripts() / "klinestream", "archive", "compact"], env=os.environ | configuration(found.config), check=True)


def _archived(report: Report, symbols: int, folder: Path) -> None:
    """What a record takes in the archive, in files of the minutes that it ran."""
    files = Files(str(folder))
    for topic in files.topics():
        spans = [span for date in files.dates(topic) for span in current(files.spans(topic, date))]
        records = sum(span.end - span.first for span in spans)
        size = sum((folder / span.path).stat().st_size for span in spans)
        report.row(f"{symbols} symbols: archive of {topic}", symbols=symbols, records=records, bytes_a_record=round(size / records, 1))

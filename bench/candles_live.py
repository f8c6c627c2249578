"""How long it takes from a minute's last kline of a symbol to its indicators, live, and what each part of the pipeline spends.

frame sent ─► producer ─► crypto_kline_data ─► the job's batch ─► engine, text ─► crypto_indicators ─► a reader
   └───── feed ─────┘└──────── to the job ────────┘└──────────────── job to reader ───────────────────┘
   └───────────────────────────────────────── total ──────────────────────────────────────────────────┘

A job's records say when their batch came to the engine (`published_ms`), so that the engine's own time is part of the last hop.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import orjson
import psutil

from bench.candles_scale import Scale
from bench.report import Report, percentiles
from bench.throughput import broker_and_flink
from klinestream.cli import up
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.topics import INDICATORS, KLINES, PUBLISHED_HEADER
from klinestream.runtime.config import Config, load
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.stack.commands import configuration, script_of
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, TestFlink
from tests.topics import kafka

_START_S = 120.0
_LOOK_S = 5
_AFTER_S = 5  # for what the last minute's end leads to
_EMPTY_POLLS = 20


@dataclass(slots=True)
class Live:
    """What runs: the configuration, Flink, the jobs' ids, and the processes of each part."""

    config: Config
    flink: TestFlink
    jobs: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[psutil.Process]] = field(default_factory=dict)


def measure(report: Report, folder: Path, scale: Scale) -> None:
    """Without history, and once more with it."""
    asked = load(None).candles.history
    runs = {"no history": 0, "with history": asked} if scale.with_history else {"no history": 0}
    for what, history in runs.items():
        with _live(folder / str(history), scale.symbols, history) as live:
            _one(report, f"live, {what}", live, scale)
    report.note(
        f"live: ms; {scale.symbols:,} symbols, {len(INTERVALS)} intervals, ends of a minute: {scale.minutes}, both jobs, everything on "
        "this machine; a candle counts whose first and last kline came while it ran"
    )
    if scale.with_history:
        report.note(f"live, with history: {asked} candles a symbol and interval are fetched and computed meanwhile")
    report.note("live: CPU in ms a second, in the mean and in the second after a minute's end; checkpoints once a second")


@contextmanager
def _live(folder: Path, symbols: int, history: int) -> Iterator[Live]:
    """Broker, Flink with both jobs, stand-in and producer, in the order in which nothing has to catch up."""
    with broker_and_flink(folder) as (broker, flink), ExitStack() as stack:
        live = Live(_config(broker, symbols, history), flink)
        manager = psutil.Process(flink.task_manager_pid)
        known: set[psutil.Process] = set()
        for job in ("windows", "candles"):
            live.jobs[job] = flink.submit(script_of(job), env=configuration(live.config))
            workers = set(manager.children(recursive=True)) - known
            live.parts[f"{job} job's Python workers"] = list(workers)
            known |= workers
        live.parts |= {"task manager's JVM": [manager], "job manager": [psutil.Process(flink.job_manager_pid)]}
        live.parts["broker"] = [psutil.Process(broker.pid)]
        for part in ("standin", "producer"):
            process = stack.enter_context(_process(part, live.config))
            live.parts[part] = [psutil.Process(process.pid)]
        live.parts["measuring"] = [psutil.Process()]
        yield live


def _config(broker: TestBroker, symbols: int, history: int) -> Config:
    standin, metrics = free_ports(2)
    given = load(
        None,
        stack={"broker_port": broker.port, "standin_port": standin},
        producer={"metrics_port": metrics},
        candles={"history": history},
        log={"level": "warning"},
    )
    return up.effective(given, up.Options(symbols=str(symbols)))


@contextmanager
def _process(command: str, config: Config) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([scripts() / "klinestream", command], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)


def _one(report: Report, what: str, live: Live, scale: Scale) -> None:
    servers = live.config.kafka.bootstrap_servers
    klines = open_reader(kafka(servers), "bench-klines")
    eventually(lambda: sum(end for _, end in klines.bounds(KLINES.name).values()) > 2 * scale.symbols, _START_S, "klines flow")
    # The first whole minute warms the JVM up, and its end is the first one that counts.
    first_edge = (_now_ms() // MINUTE_MS + 2) * MINUTE_MS
    edges = [first_edge + minute * MINUTE_MS for minute in range(scale.minutes)]
    heard = _Listener(servers)
    _sleep_until(first_edge - MINUTE_MS // 2)
    before, began_ms = _batches(live), _now_ms()
    looks = _watch(live, edges[-1] + _AFTER_S * SECOND_MS)
    batches, passed_s = _batches(live) - before, (_now_ms() - began_ms) / SECOND_MS
    heard.close()
    fed = {
        (record.key, record.timestamp_ms): _published(record)
        for record in _read(klines, KLINES.name, first_edge - SECOND_MS)
        if record.timestamp_ms + 1 in edges
    }
    klines.close()
    _latencies(report, what, looks.bursts, fed, heard.first(edges))
    _cpu(report, what, looks.cpu, edges)
    for name, values in looks.checkpoints(began_ms).items():
        report.row(f"{what}: {name}", count=len(values), **percentiles(values))
    report.row(f"{what}: batches to the candles operator", a_second=round(batches / passed_s, 1))


@dataclass(slots=True)
class _Looks:
    """What was looked at while it ran."""

    bursts: dict[int, int] = field(default_factory=dict)
    """Second → when its last frame had been handed over, ms."""
    cpu: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """(time, CPU seconds so far of each part)."""
    found: dict[int, dict[str, int]] = field(default_factory=dict)
    """The candles job's checkpoints by number."""

    def checkpoints(self, since_ms: int) -> dict[str, list[float]]:
        """Sizes and durations of those that were begun since."""
        mine = [one for one in self.found.values() if one["trigger_timestamp"] >= since_ms]
        return {
            "checkpoint, KiB": [one["state_size"] / 1024 for one in mine],
            "checkpoint, ms": [one["end_to_end_duration"] for one in mine],
        }


def _watch(live: Live, until_ms: int) -> _Looks:
    """Look at the clock of each part once a second, and now and then at the rest."""
    looks = _Looks()
    with httpx.Client(trust_env=False) as rest:
        while (now_ms := _now_ms()) < until_ms:
            looks.cpu.append((now_ms, {part: sum(map(_spent_s, each)) for part, each in live.parts.items()}))
            if len(looks.cpu) % _LOOK_S == 0:
                sent = rest.get(f"{live.config.exchange.rest_url}/standin/status").json()["bursts_ms"]
                looks.bursts |= {burst // SECOND_MS * SECOND_MS: burst for burst in sorted(sent)}
                taken = rest.get(f"{live.flink.rest_url}/jobs/{live.jobs['candles']}/checkpoints").json()["history"]
                looks.found |= {one["id"]: one for one in taken if one["status"] == "COMPLETED"}
            _sleep_until((now_ms // SECOND_MS + 1) * SECOND_MS)
    return looks


def _spent_s(process: psutil.Process) -> float:
    try:
        spent = process.cpu_times()
    except psutil.NoSuchProcess as error:
        raise AssertionError("expected every part to live on while it is measured, but one ended: the job failed and began anew") from error
    return spent.user + spent.system


def _batches(live: Live) -> int:
    """How many batches have reached the candles operator."""
    vertices = httpx.get(f"{live.flink.rest_url}/jobs/{live.jobs['candles']}", trust_env=False).json()["vertices"]
    (mine,) = (vertex for vertex in vertices if vertex["name"].startswith("candles"))
    return int(mine["metrics"]["read-records"])


class _Listener(threading.Thread):
    """Notes when records of `crypto_indicators` were there, and looks into them afterwards."""

    def __init__(self, servers: str) -> None:
        super().__init__(daemon=True)
        self._reader = open_reader(kafka(servers), "bench-indicators")
        self._reader.assign({(INDICATORS.name, partition): end for partition, (_, end) in self._reader.bounds(INDICATORS.name).items()})
        self._ending = threading.Event()
        self._heard: list[tuple[int, Record]] = []
        self.start()

    def run(self) -> None:
        """Listen."""
        while not self._ending.is_set():
            records = self._reader.poll(0.1)
            at = _now_ms()
            # Of history there is more than fits, and it isn't asked for.
            self._heard += [(at, record) for record in records if at - record.timestamp_ms < MINUTE_MS]

    def close(self) -> None:
        """End."""
        self._ending.set()
        self.join()
        self._reader.close()

    def first(self, edges: list[int]) -> Mapping[tuple[bytes, str, int], tuple[int, int]]:
        """(symbol, interval, close time) → when its first record's batch came to the engine, and when the record was there."""
        found: dict[tuple[bytes, str, int], tuple[int, int]] = {}
        for at, record in self._heard:
            if record.timestamp_ms + 1 in edges:
                value = orjson.loads(record.value or b"")
                found.setdefault((record.key or b"", value["i"], record.timestamp_ms), (_published(record), at))
        return found


def _latencies(
    report: Report,
    what: str,
    sent: Mapping[int, int],
    fed: Mapping[tuple[bytes | None, int], int],
    heard: Mapping[tuple[bytes, str, int], tuple[int, int]],
) -> None:
    hops: dict[str, list[float]] = {"feed": [], "to the job": [], "job to reader": [], "total": []}
    for (symbol, interval, closed), (taken, at) in heard.items():
        burst, published = sent.get(closed + 1), fed.get((symbol, closed))
        # History may close a candle without its last kline.
        if burst is None or published is None:
            continue
        hops["feed"].append(published - burst)
        hops["to the job"].append(taken - published)
        hops["job to reader"].append(at - taken)
        hops["total"].append(at - burst)
        hops.setdefault(f"total of {interval}", []).append(at - burst)
    assert hops["total"], f"expected indicators at the ends of minutes, got none of {len(heard)} with its kline of {len(fed)}"
    for hop, values in hops.items():
        report.row(f"{what}: {hop}", count=len(values), **percentiles(values))


def _cpu(report: Report, what: str, looks: list[tuple[int, dict[str, float]]], edges: list[int]) -> None:
    times = np.array([at for at, _ in looks])
    after_edge = np.isin(times[:-1] // SECOND_MS * SECOND_MS, edges)
    for part in looks[0][1]:
        spent = np.diff([each[part] for _, each in looks]) / np.diff(times) * SECOND_MS * 1000
        report.row(f"{what}: CPU of {part}", ms_a_second=round(float(spent.mean())), after_a_minute=round(float(spent[after_edge].mean())))


def _read(reader: Reader, topic: str, since_ms: int) -> Iterator[Record]:
    """What a topic holds since a time."""
    first, bounds = reader.offsets_at(topic, since_ms), reader.bounds(topic)
    left = {partition: end - first[partition] for partition, (_, end) in bounds.items()}
    reader.assign({(topic, partition): offset for partition, offset in first.items()})
    empty = 0
    while any(count > 0 for count in left.values()) and empty < _EMPTY_POLLS:
        records = reader.poll(0.1)
        empty = 0 if records else empty + 1
        for record in records:
            left[record.partition] -= 1
            yield record


def _published(record: Record) -> int:
    return int(dict(record.headers)[PUBLISHED_HEADER])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _sleep_until(time_ms: int) -> None:
    time.sleep(max(0, time_ms - _now_ms()) / SECOND_MS)

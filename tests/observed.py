"""Parts for a server to look at: real endpoints of metrics, and a Flink whose answers are those of a real one, kept."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from klinestream.replay.repairs.metrics import RepairMetrics
from klinestream.runtime.metrics import MetricsServer
from producer.metrics import LATENCY_SAMPLE, Metrics
from tests.ports import free_ports

WINDOWS, CANDLES = "fcd1c8a1edf7e8b4097ab7ece12d202b", "0d9c1c3a5f0e4b7f8a6d2e1b3c4d5e6f"
VERTEX = "cbc357ccb763df2852fee8c4fc7d55f2"
_TASKS = {"running": 3, "canceling": 0, "canceled": 0, "total": 3, "created": 0, "scheduled": 0, "deploying": 0, "initializing": 0}
_METRICS = {
    "Source__lines_of_crypto_kline_data[1].pendingRecords": 40,
    "Source__lines_of_crypto_kline_data[1].currentEmitEventTimeLag": 17,
    "windows.klinestream.klines": 4920,
    "windows.klinestream.windows": 9840,
    "windows.klinestream.dead_letters": 2,
    "busyTimeMsPerSecond": 63,
    "backPressuredTimeMsPerSecond": 4,
}
_TRACE = """org.apache.flink.runtime.JobException: Recovery is suppressed
\tat org.apache.flink.runtime.Graph.fail(Graph.java:1)
Caused by: java.io.IOException: Connection to kafka-7.internal:9092 (/10.1.2.3:9092) was lost
\tat org.apache.kafka.Client.poll(Client.java:2)
"""


def job(job_id: str, name: str, now_ms: int, **changes: Any) -> dict[str, Any]:
    """A job as /jobs/overview lists it, begun a minute ago."""
    return {"jid": job_id, "name": name, "start-time": now_ms - 60_000, "end-time": -1, "state": "RUNNING", "tasks": _TASKS, **changes}


def flink_answers(now_ms: int) -> dict[str, Any]:
    """Path → answer of a cluster on which both jobs run; that of the windows has failed once."""
    answers: dict[str, Any] = {
        "/overview": {"taskmanagers": 1, "slots-total": 4, "slots-available": 2, "flink-version": "2.2.1"},
        "/jobs/overview": {"jobs": [job(WINDOWS, "klinestream windows", now_ms), job(CANDLES, "klinestream candles", now_ms)]},
    }
    done = {"latest_ack_timestamp": now_ms - 700, "state_size": 124_958, "end_to_end_duration": 26}
    failure = {"timestamp": now_ms - 30_000, "exceptionName": "org.apache.flink.runtime.JobException", "stacktrace": _TRACE}
    for job_id, failures in ((WINDOWS, [failure]), (CANDLES, [])):
        answers[f"/jobs/{job_id}"] = {"vertices": [{"id": VERTEX, "name": "windows"}]}
        answers[f"/jobs/{job_id}/checkpoints"] = {"counts": {"completed": 174, "failed": 43}, "latest": {"completed": done}}
        answers[f"/jobs/{job_id}/exceptions"] = {"exceptionHistory": {"entries": failures, "truncated": False}}
        answers[f"/jobs/{job_id}/metrics"] = [{"id": "numRestarts", "value": "1"}]
        metrics = [{"id": name, "sum": value, "max": value, "min": value, "avg": value} for name, value in _METRICS.items()]
        answers[f"/jobs/{job_id}/vertices/{VERTEX}/subtasks/metrics"] = metrics
    return answers


@dataclass
class Answers:
    """A small HTTP server: what it answers may be changed while it runs; `asked` counts by path."""

    port: int
    of: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def answering(of: dict[str, Any]) -> Iterator[Answers]:
    """Answers by path: text as it is, anything else as JSON, and 404 for the rest."""
    [port] = free_ports(1)
    answers = Answers(port, of)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            answers.asked[path] = answers.asked.get(path, 0) + 1
            found = answers.of.get(path)
            body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line a request is of no use to anybody."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="answers")
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Parts:
    """A producer's and a repair's own endpoints; `wrong` is what the producer says is wrong. A part that was ended can be begun again."""

    metrics: Metrics
    repair: RepairMetrics
    ports: tuple[int, int]
    wrong: list[str] = field(default_factory=list)
    servers: dict[str, MetricsServer] = field(default_factory=dict)

    @property
    def observe(self) -> tuple[str, ...]:
        """As `server.observe` takes them."""
        return tuple(f"{name}=http://127.0.0.1:{port}" for name, port in zip(("producer", "repair"), self.ports, strict=True))

    def begin(self) -> None:
        """Serve what isn't served."""
        for name, port, registry in zip(("producer", "repair"), self.ports, (self.metrics.registry, self.repair.registry), strict=True):
            if name not in self.servers:
                self.servers[name] = MetricsServer("127.0.0.1", port, registry, lambda name=name: self.wrong if name == "producer" else [])

    def end(self, name: str) -> None:
        """Serve it no more."""
        self.servers.pop(name).close()


@contextmanager
def parts() -> Iterator[Parts]:
    """A producer that has published 100 klines of 20 symbols over two websockets, and a repair with nothing to do."""
    first, second = free_ports(2)
    serving = Parts(Metrics(), RepairMetrics(), (first, second))
    serving.metrics.symbols.set(20)
    serving.metrics.connections.set(2)
    serving.metrics.data_age.labels("0.0").set(0.4)
    publish(serving, 100)
    serving.begin()
    try:
        yield serving
    finally:
        for name in tuple(serving.servers):
            serving.end(name)


def publish(serving: Parts, klines: int, seconds: float = 0.015) -> None:
    """Count klines as published, each acknowledged within some seconds."""
    serving.metrics.tally(0).published += klines
    serving.metrics.tally(0).frames += klines
    for _ in range(klines * LATENCY_SAMPLE):
        serving.metrics.acknowledged(seconds)

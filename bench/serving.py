"""Fan-out: one server on one core, a thousand clients of twenty symbols each, next to a plain `websockets.broadcast` server.

    load ─► Kafka ─► server, alone on one core ─► 1,000 clients        no Flink: windows as the job publishes them, two a symbol a second
    └──────┴────── all else on another core ──────────┘

From a record's `published_ms` until a client has read the message that holds it; every record at every client counts.
"""

import random
import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from bench.report import Report, percentiles
from bench.serving_clients import Found, Plan
from bench.serving_load import SYMBOLS, Load, on_core
from bench.serving_processes import OTHER_CORE, Clients, Served, klinestream, plain
from tests.stack import broker_with_topics

CLIENTS, EACH, LISTS = 1000, 20, 10
IDLE = 5000
STALLED = (1, 50)
_TURNS = 3
_MEASURED_S = 6.0
_STALLED_S = 13.0  # a client that takes nothing is closed after ten
_WARM_S = 3.0
_SETTLED_S = 5.0
_FILES = 16_000
OURS, PLAIN = "klinestream", "plain broadcast"
OWN, SHARED = "own lists", "shared lists"


def measure(report: Report, folder: Path) -> None:
    """Latency next to the plain server, in turns; what stalled clients cost the others; memory of idle clients."""
    allow_files()
    with ExitStack() as stack, on_core(OTHER_CORE):
        broker = stack.enter_context(broker_with_topics(folder / "broker"))
        fed = Load(broker.bootstrap_servers)
        stack.callback(fed.stop)
        bench = _Bench(report, folder, broker.bootstrap_servers, fed)
        bench.latency(OWN, _own_lists())
        bench.latency(SHARED, _shared_lists())
        bench.stalled()
        bench.idle()
    for note in (
        f"ms from a record's published_ms until a client has read it, all records at all {CLIENTS:,} clients; no Flink",
        f"own lists: each client {EACH} of {len(SYMBOLS)} symbols; shared lists: {LISTS} lists, each for {CLIENTS // LISTS} clients",
        f"{_TURNS} turns of {_MEASURED_S:.0f} s each, and their medians; the server alone on a core; all else on another",
        "clients_own_p99: from the arrival of bytes at a client's socket, as the kernel notes it, to the read; part of p99",
        "memory: what is the server process's alone, less what it was without these clients; the kernel's buffers are not in it",
    ):
        report.note(note)


def allow_files() -> None:
    """Each client takes a file, in the server and in the clients' process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    assert wanted > IDLE + 500, f"expected to be allowed {IDLE + 500} open files, got {wanted}: raise the hard limit (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _own_lists() -> list[list[str]]:
    chosen = random.Random(1)
    return [sorted(chosen.sample(SYMBOLS, EACH)) for _ in range(CLIENTS)]


def _shared_lists() -> list[list[str]]:
    lists = _own_lists()[:LISTS]
    return [lists[number % LISTS] for number in range(CLIENTS)]


@dataclass
class _Turn:
    """What one server did in one turn."""

    latency_ms: npt.NDArray[np.float64]
    own_ms: npt.NDArray[np.float64]
    found: Found
    server_cpu: float
    seconds: float

    def row(self) -> dict[str, float]:
        """For the table, as of a second."""
        return {
            **percentiles(self.latency_ms.tolist()),
            "clients_own_p99": round(float(np.percentile(self.own_ms, 99)), 1),
            "messages_a_second": round(self.found.messages / self.seconds),
            "mb_a_second": round(self.found.size / self.seconds / 1e6, 1),
            "server_cpu_ms_a_second": round(1000 * self.server_cpu),
            "server_cpu_us_a_message": round(1e6 * self.server_cpu * self.seconds / self.found.messages, 1),
            "clients_cpu_ms_a_second": round(1000 * self.found.cpu_share),
        }


@dataclass
class _Bench:
    """The parts, on one broker and one load."""

    report: Report
    folder: Path
    brokers: str
    fed: Load

    def latency(self, what: str, subscriptions: list[list[str]]) -> None:
        """In turns, so that what disturbs the machine disturbs both."""
        servers: dict[str, Callable[[], AbstractContextManager[Served]]] = {OURS: self._ours, PLAIN: lambda: plain(self.brokers)}
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for turn in range(_TURNS):
            for name, start in servers.items():
                with start() as served, self._clients(served, subscriptions) as clients:
                    turns[name].append(self._listen(served, clients).row())
                self.report.row(f"{what}, {name}, turn {turn + 1}", **turns[name][-1])
        for name, rows in turns.items():
            self.report.row(f"{what}, {name}", **{column: round(median(row[column] for row in rows), 1) for column in rows[0]})
        for column in ("p99", "server_cpu_us_a_message"):
            ratios = [ours[column] / theirs[column] for ours, theirs in zip(turns[OURS], turns[PLAIN], strict=True)]
            told = {"ratio": median(ratios), "least": min(ratios), "most": max(ratios)}
            self.report.row(f"{what}, {column}, {OURS} / {PLAIN}", **{name: round(ratio, 2) for name, ratio in told.items()})

    def stalled(self) -> None:
        """A thousand clients before, and beside clients that follow everything and read nothing, in the same server."""
        everything = list(SYMBOLS)
        with self._ours() as served, self._clients(served, _own_lists()) as clients:
            self._beside(served, clients, "no client stalled")
            for count in STALLED:
                closed = served.metric("klinestream_server_clients_closed_total{")
                with Clients(served.port, Plan(everything, count * [everything], stalled=True), self._folder()):
                    self._beside(served, clients, f"{count} stalled", closed)

    def idle(self) -> None:
        """Connected first, subscribed then; no windows come."""
        everything = list(SYMBOLS)
        with self._ours() as served:
            self.fed.pause()
            time.sleep(_SETTLED_S)
            before = served.own_bytes()
            for what, symbols in (("connected", []), (f"following {EACH} symbols", everything[:EACH])):
                with Clients(served.port, Plan(everything, IDLE * [symbols]), self._folder()):
                    time.sleep(_SETTLED_S)
                    now, cpu_s = served.own_bytes(), served.cpu_s()
                    time.sleep(_SETTLED_S)
                    self.report.row(
                        f"{IDLE:,} idle clients, {what}",
                        mb=round((now - before) / 1e6, 1),
                        kb_a_client=round((now - before) / IDLE / 1e3, 1),
                        server_cpu_ms_a_second=round(1000 * (served.cpu_s() - cpu_s) / _SETTLED_S),
                    )
            self.fed.go_on()

    def _beside(self, served: Served, clients: Clients, what: str, closed_before: float = 0.0) -> None:
        found = self._listen(served, clients, _STALLED_S)
        closed = served.metric("klinestream_server_clients_closed_total{") - closed_before
        self.report.row(f"the others' clients, {what}", **found.row(), closed_as_too_slow=round(closed))

    def _listen(self, served: Served, clients: Clients, seconds: float = _MEASURED_S) -> _Turn:
        time.sleep(_WARM_S)
        clients.measure()
        cpu_s = served.cpu_s()
        time.sleep(seconds)
        cpu_s = served.cpu_s() - cpu_s
        found = clients.tell()
        assert found.closed == 0, f"expected every client to stay, {found.closed} were closed"
        assert found.left_out == 0, f"expected no client to be conflated, {found.left_out} records were left out"
        at_ms = self.fed.published_ms(found.symbols, found.ends_ms)
        return _Turn(found.read_ns / 1e6 - at_ms, (found.read_ns - found.arrived_ns) / 1e6, found, cpu_s / seconds, seconds)

    def _ours(self) -> AbstractContextManager[Served]:
        return klinestream(self.brokers, clients=IDLE + CLIENTS, symbols=len(SYMBOLS))

    def _clients(self, served: Served, subscriptions: list[list[str]]) -> Clients:
        return Clients(served.port, Plan(list(SYMBOLS), subscriptions), self._folder())

    def _folder(self) -> Path:
        made = self.folder / f"clients-{time.time_ns()}"
        made.mkdir()
        return made

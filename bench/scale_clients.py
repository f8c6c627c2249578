"""What clients cost a server: by how many there are, and by how many symbols each follows."""

import random
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.report import Report
from bench.serving import allow_files
from bench.serving_clients import Plan
from bench.serving_load import SYMBOLS, Load, on_core
from bench.serving_processes import OTHER_CORE, Clients, Served, klinestream
from tests.stack import broker_with_topics

CASES = ((0, 0), (500, 20), (1000, 20), (2000, 20), (4000, 20), (1000, 5), (1000, 50))
"""Clients, and how many symbols each of them follows, chosen for it alone."""
_WARM_S = 4.0
_MEASURED_S = 8.0


def measure(report: Report, folder: Path) -> None:
    """One server, a number of clients after the other."""
    allow_files()
    most = max(clients for clients, _ in CASES)
    with ExitStack() as stack, on_core(OTHER_CORE):
        broker = stack.enter_context(broker_with_topics(folder / "broker"))
        fed = Load(broker.bootstrap_servers)
        stack.callback(fed.stop)
        served = stack.enter_context(klinestream(broker.bootstrap_servers, clients=most, symbols=len(SYMBOLS)))
        time.sleep(_WARM_S)
        alone_bytes = served.own_bytes()
        for number, (clients, each) in enumerate(CASES):
            _one(report, folder / f"clients-{number}", served, fed, (clients, each), alone_bytes)


def _one(report: Report, folder: Path, served: Served, fed: Load, case: tuple[int, int], alone_bytes: int) -> None:
    clients, each = case
    chosen = random.Random(1)
    lists = [sorted(chosen.sample(SYMBOLS, each)) for _ in range(clients)]
    told: dict[str, float] = {}
    if not clients:
        spent_s, _ = _spent(served)
    else:
        folder.mkdir(parents=True)
        with Clients(served.port, Plan(list(SYMBOLS), lists), folder) as listening:
            time.sleep(_WARM_S)
            listening.measure()
            spent_s, passed_s = _spent(served)
            own_bytes = served.own_bytes()
            found = listening.tell()
            late = found.read_ns / 1e6 - fed.published_ms(found.symbols, found.ends_ms)
            told = {
                "p50": round(float(np.percentile(late, 50)), 1),
                "p99": round(float(np.percentile(late, 99)), 1),
                "messages_a_client_and_second": round(found.messages / clients / passed_s, 2),
                "kb_a_client_and_second": round(found.size / clients / passed_s / 1e3, 2),
                "kb_memory_a_client": round((own_bytes - alone_bytes) / clients / 1e3, 1),
                "conflated": found.left_out,
                "closed": found.closed,
            }
    report.row(
        f"{clients:,} clients of {each} symbols", clients=clients, followed=each, server_cpu_ms_a_second=round(spent_s * 1000, 1), **told
    )


def _spent(served: Served) -> tuple[float, float]:
    """Processor time that the server takes a second, and how long it was looked at."""
    began_s, cpu_s = time.monotonic(), served.cpu_s()
    time.sleep(_MEASURED_S)
    passed_s = time.monotonic() - began_s
    return (served.cpu_s() - cpu_s) / passed_s, passed_s

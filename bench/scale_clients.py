"""What clients cost a server: by how many there are, and by how many symbols each follows."""

import random
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.report import Report
from bench.serving import allow_files
from bench.serving_clients import Plan
from bench.serving_load import Load, on_core
from bench.serving_processes import OTHER_CORE, Clients, Served, klinestream
from tests.stack import broker_with_topics

CASES = ((0, 0), (500, 20), (1000, 20), (2000, 20), (4000, 20), (1000, 5), (1000, 50))
"""Clients, and how many symbols each of them follows, chosen for it alone."""
SYMBOLS = tuple(f"COIN{number:04}USDT" for number in range(1400))
_HISTORY_S = 10  # a short one, soon full: what memory grows by afterwards is the clients'
_WARM_S = 4.0
_MEASURED_S = 8.0


def measure(report: Report, folder: Path) -> None:
    """One server, a number of clients after the other."""
    allow_files()
    most = max(clients for clients, _ in CASES)
    with ExitStack() as stack, on_core(OTHER_CORE):
        broker = stack.enter_context(broker_with_topics(folder / "broker"))
        fed = Load(broker.bootstrap_servers, SYMBOLS)
        stack.callback(fed.stop)
        served = stack.enter_context(klinestream(broker.bootstrap_servers, clients=most, symbols=len(SYMBOLS), history_s=_HISTORY_S))
        time.sleep(2 * _HISTORY_S)
        for clients, each in CASES:
            told = _with(folder / f"clients-{clients}-{each}", served, fed, _lists(clients, each)) if clients else _alone(served)
            report.row(f"{clients:,} clients of {each} symbols", clients=clients, followed=each, **told)


def _lists(clients: int, each: int) -> list[list[str]]:
    chosen = random.Random(1)
    return [sorted(chosen.sample(SYMBOLS, each)) for _ in range(clients)]


def _alone(served: Served) -> dict[str, float]:
    spent_s, _ = _spent(served)
    return {"server_cpu_ms_a_second": round(spent_s * 1000, 1)}


def _with(folder: Path, served: Served, fed: Load, lists: list[list[str]]) -> dict[str, float]:
    folder.mkdir(parents=True)
    with Clients(served.port, Plan(list(SYMBOLS), lists), folder) as listening:
        time.sleep(_WARM_S)
        listening.measure()
        spent_s, passed_s = _spent(served)
        found = listening.tell()
    late_ms = found.read_ns / 1e6 - fed.published_ms(found.symbols, found.ends_ms)
    return {
        "server_cpu_ms_a_second": round(spent_s * 1000, 1),
        "p50": round(float(np.percentile(late_ms, 50)), 1),
        "p99": round(float(np.percentile(late_ms, 99)), 1),
        "messages_a_client_and_second": round(found.messages / len(lists) / passed_s, 2),
        "kb_a_client_and_second": round(found.size / len(lists) / passed_s / 1e3, 2),
        "conflated": found.left_out,
        "closed": found.closed,
    }


def _spent(served: Served) -> tuple[float, float]:
    """Processor time that the server takes a second, and how long it was looked at."""
    began_s, cpu_s = time.monotonic(), served.cpu_s()
    time.sleep(_MEASURED_S)
    passed_s = time.monotonic() - began_s
    return (served.cpu_s() - cpu_s) / passed_s, passed_s

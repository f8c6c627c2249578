"""What `klinestream up --with trades,books,ingest` takes more than without: seconds to the first point, and memory."""

import time
from pathlib import Path

from bench.footprint import memory, start_up
from bench.report import Report
from tests.ports import free_ports
from tests.whole_stack import TestStack

WITH = ("trades", "books", "ingest")
_SYMBOLS = 50
_SETTLED_S = 30


def measure(report: Report, folder: Path) -> None:
    """Start-up from nothing, then the memory of each part."""
    words = ", ".join(WITH)
    stack = _stack(folder / "up")
    seconds = start_up(stack.config, _SYMBOLS, ("--with", ",".join(WITH)))
    report.row(f"from `klinestream up` to the first point, {_SYMBOLS} symbols, with {words}", seconds=round(seconds, 1))
    stack = _stack(folder / "memory")
    try:
        stack.start()
        time.sleep(_SETTLED_S)
        memory(report, stack)
    finally:
        stack.stop()
    report.note(f"memory: proportional share of each process and its children, {_SETTLED_S} s after the start, at {_SYMBOLS} symbols")


def _stack(folder: Path) -> TestStack:
    trades, books, ingest = free_ports(3)
    tables = {"trades": {"metrics_port": trades}, "books": {"metrics_port": books}, "ingest": {"port": ingest}}
    return TestStack(folder, str(_SYMBOLS), WITH, **tables)

"""What `klinestream up --with trades,books,ingest` takes: seconds to the first point, and the memory of each part."""

import time
from pathlib import Path

from bench.footprint import memory
from bench.report import Report
from tests.ports import free_ports
from tests.whole_stack import TestStack

WITH = ("trades", "books", "ingest")
_SYMBOLS = 50
_SETTLED_S = 30


def measure(report: Report, folder: Path) -> None:
    """One start from nothing, then the memory of all parts."""
    trades, books, ingest = free_ports(3)
    tables = {"trades": {"metrics_port": trades}, "books": {"metrics_port": books}, "ingest": {"port": ingest}}
    stack = TestStack(folder, str(_SYMBOLS), WITH, **tables)
    try:
        began_s = time.monotonic()
        stack.start()
        report.row(f"start to the first point, {_SYMBOLS} symbols, with {', '.join(WITH)}", seconds=round(time.monotonic() - began_s, 1))
        time.sleep(_SETTLED_S)
        memory(report, stack)
    finally:
        stack.stop()
    report.note("seconds from the supervisor's start; the command itself takes about one more to begin")
    report.note(f"memory: proportional share of each process and its children, {_SETTLED_S} s after the first point, at {_SYMBOLS} symbols")

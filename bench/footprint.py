"""Memory of each part at 1,400 symbols, and the seconds from `klinestream up` to the first point on the chart."""

import os
import subprocess
import time
from pathlib import Path

import psutil

from bench.market import SYMBOLS
from bench.report import Report
from klinestream.runtime.config import Config
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.whole_stack import TestStack

_SETTLED_S = 60
_LOOKS = 20


def measure(report: Report, folder: Path) -> None:
    """Start-up as a newcomer does it, three times from nothing; then memory."""
    for symbols in (50, 50, SYMBOLS):
        report.row(
            f"from `klinestream up` to the first point, {symbols:,} symbols",
            seconds=round(_start_up(TestStack(folder / f"up-{time.time_ns()}", str(symbols)).config, symbols), 1),
        )
    stack = TestStack(folder / "memory", str(SYMBOLS))
    try:
        stack.start()
        time.sleep(_SETTLED_S)
        memory(report, stack)
    finally:
        stack.stop()
    report.note(
        f"memory is the proportional share of each process and its children: the most of {_LOOKS} looks, {_SETTLED_S} s after the start, "
        f"at {SYMBOLS:,} symbols"
    )


def _start_up(config: Config, symbols: int) -> float:
    folder = config.stack.state_dir
    folder.mkdir(parents=True)
    said = folder / "up.txt"
    began = time.perf_counter()
    with said.open("wb") as output:
        command = [scripts() / "klinestream", "up", "--no-table", "--symbols", str(symbols)]
        up = subprocess.Popen(command, env=os.environ | configuration(config), stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: "the chart has data" in said.read_text(), 180, "the chart has data")
        return time.perf_counter() - began
    finally:
        up.terminate()
        up.wait(20)


def memory(report: Report, stack: TestStack) -> None:
    """The most that each part took, of some looks."""
    most: dict[str, int] = {}
    for _ in range(_LOOKS):
        for part, pid in stack.supervisor.pids().items():
            most[part] = max(most.get(part, 0), _share(pid))
        time.sleep(0.5)
    for part, share in most.items():
        report.row(f"memory of {part}", mb=share >> 20)
    report.row("memory of all parts", mb=sum(most.values()) >> 20)


def _share(pid: int) -> int:
    """Proportional set size of a process and all below it."""
    parent = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in [parent, *parent.children(recursive=True)])

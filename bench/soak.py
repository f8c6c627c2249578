"""`make soak`: the whole stack for minutes, its parts killed at random by a seeded script, then the proof from the topics.

With `--page` a browser has the chart open all the time; the server is left alive then, and neither of them may grow.
"""

import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.report import Report
from bench.soak_page import OpenPage, report_page
from klinestream.market.topics import PUBLISHED_HEADER, WINDOWS
from tests.eventually import eventually
from tests.proof import prove
from tests.topics import Topic
from tests.whole_stack import TestStack

PARTS = ("server", "producer", "repair", "standin", "task-manager-1", "job-manager", "broker")
_BACK_S = 180.0
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A part that was killed, and when all was well again."""

    part: str
    began_ms: int
    back_ms: int

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.back_ms - self.began_ms) / 1000


def main(
    minutes: Annotated[float, typer.Option(min=1, max=600, help="How long.")] = 10.0,
    symbols: Annotated[int, typer.Option(min=1, max=1400, help="How many symbols.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed kills in the same order.")] = 1,
    every: Annotated[float, typer.Option(min=3, max=3600, help="Seconds from a kill that is survived to the next one, in the mean.")] = 9.0,
    page: Annotated[bool, typer.Option("--page", help="Keep the chart open in a browser: neither it nor the server may grow.")] = False,
) -> None:
    """Kill, wait until all is well, and again; prove every number in the end."""
    console, chosen, report = Console(), random.Random(seed), Report("soak_page" if page else "soak")
    outages: list[Outage] = []
    parts = [part for part in PARTS if not page or part != "server"]
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="klinestream-soak-", ignore_cleanup_errors=True))
        stack = TestStack(Path(folder), str(symbols))
        opened.callback(stack.stop)
        stack.start()
        chart = OpenPage(stack) if page else None
        if chart is not None:
            opened.callback(chart.close)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            _wait(min(until, time.monotonic() + chosen.uniform(every / 3, every * 5 / 3)), chart)
            part = chosen.choice(parts)
            outages.append(_strike(stack, part))
            console.print(f"{part}: data on the chart again after {outages[-1].seconds:.1f} s")
        _report(report, stack, outages)
        grown = report_page(report, chart.looks) if chart is not None else []
    report.write()
    assert not grown, f"expected to hold no more in the second half than in the first, but this grew: {', '.join(grown)}"


def _wait(until_s: float, chart: OpenPage | None) -> None:
    """Let it run, and look at the page meanwhile."""
    while time.monotonic() < until_s:
        time.sleep(_TICK_S)
        if chart is not None:
            chart.look()


def _strike(stack: TestStack, part: str) -> Outage:
    began_ms = time.time_ns() // 1_000_000
    killed = stack.kill(part)
    eventually(lambda: stack.supervisor.pids().get(part) not in {None, killed}, _BACK_S, f"{part} is started again")
    stack.wait_until_up(_BACK_S)
    return Outage(part, began_ms, time.time_ns() // 1_000_000)


def _report(report: Report, stack: TestStack, outages: list[Outage]) -> None:
    pauses = _pauses(stack, outages)
    for part in PARTS:
        mine = [pause for name, pause in pauses if name == part]
        if mine:
            report.row(f"kill -9 of {part}", kills=len(mine), mean_s=round(sum(mine) / len(mine), 1), most_s=round(max(mine), 1))
    for what, count in asdict(prove(stack)).items():
        report.row(what.replace("_", " "), count=count)
    report.note("mean and most: the longest pause in the job's output around a kill, by published_ms; without a kill it is about a second")


def _pauses(stack: TestStack, outages: list[Outage]) -> list[tuple[str, float]]:
    """Of each outage: the part, and the longest time in which no window was published, seconds."""
    windows = Topic(stack.bootstrap_servers, WINDOWS.name)
    published = np.unique([int(dict(record.headers)[PUBLISHED_HEADER]) for record in windows.read()])
    windows.close()
    gaps = np.diff(published)
    found = []
    for outage in outages:
        around = gaps[(published[1:] >= outage.began_ms) & (published[:-1] <= outage.back_ms)]
        found.append((outage.part, float(around.max()) / 1000))
    return found


if __name__ == "__main__":
    typer.run(main)

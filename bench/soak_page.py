"""A page that stays open through a soak, and the server behind it: what they hold must not grow.

Looks that are taken while both still fill their spans, the first five minutes, don't count. Of the others the second half is
compared with the first one: what leaks grows from half to half, what is full doesn't.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import psutil
from playwright.sync_api import expect, sync_playwright

from bench.report import Report
from tests.whole_stack import TestStack

GROWTH_MOST = 0.1
"""From the mean of the first half of the looks to that of the second."""
FILLED_S = 300.0
LOOKS_LEAST = 20
"""With fewer a growth says nothing."""
EVERY_S = 10.0
_WAIT_MS = 60_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Look(NamedTuple):
    """What was held at one moment."""

    at_s: float
    heap_bytes: int
    server_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """How much something grew over the looks that count."""

    what: str
    first_bytes: float
    second_bytes: float
    bytes_an_hour: float

    @property
    def share(self) -> float:
        """Of the first half's mean."""
        return self.second_bytes / self.first_bytes - 1


class OpenPage:
    """Chromium with the chart of a stack, until it is closed."""

    def __init__(self, stack: TestStack) -> None:
        """Open it; returns when the chart has drawn something."""
        self.looks: list[Look] = []
        self._stack = stack
        self._began_s = time.monotonic()
        self._playwright = sync_playwright().start()
        path = next((found for name in _NAMES if (found := shutil.which(name))), None)
        # Without the sandbox, which needs rights that a container doesn't have: the only page opened is ours.
        self._browser = self._playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = self._browser.new_page(viewport={"width": 1280, "height": 760})
        page.goto(f"http://127.0.0.1:{stack.config.server.port}/chart")
        expect(page.locator("#plot .overplot path").first).to_be_attached(timeout=_WAIT_MS)
        self._page = page
        self._devtools = page.context.new_cdp_session(page)

    def look(self) -> None:
        """Note what page and server hold, the page's garbage left out; at most every ten seconds."""
        now_s = time.monotonic() - self._began_s
        if self.looks and now_s - self.looks[-1].at_s < EVERY_S:
            return
        self._devtools.send("HeapProfiler.collectGarbage")
        heap = int(self._devtools.send("Runtime.getHeapUsage")["usedSize"])
        server = psutil.Process(self._stack.supervisor.pids()["server"]).memory_full_info().uss
        self.looks.append(Look(now_s, heap, server))

    def close(self) -> None:
        """End the browser."""
        self._browser.close()
        self._playwright.stop()


def growths(looks: Sequence[Look]) -> list[Growth]:
    """How page and server grew; nothing if there are too few looks to say.

    >>> flat = [Look(300.0 + 10 * n, 20_000_000, 90_000_000 + 9_000_000 * n) for n in range(20)]
    >>> [(each.what, round(each.share, 2)) for each in growths(flat)]
    [('JS heap of the page', 0.0), ('memory of the server', 0.69)]
    """
    counted = [look for look in looks if look.at_s >= FILLED_S]
    if len(counted) < LOOKS_LEAST:
        return []
    sizes: dict[str, Callable[[Look], int]] = {
        "JS heap of the page": lambda look: look.heap_bytes,
        "memory of the server": lambda look: look.server_bytes,
    }
    half, hours = len(counted) // 2, np.array([look.at_s for look in counted]) / 3600
    found = []
    for what, size in sizes.items():
        held = np.array([size(look) for look in counted], float)
        found.append(Growth(what, float(held[:half].mean()), float(held[half:].mean()), float(np.polyfit(hours, held, 1)[0])))
    return found


def report_page(report: Report, looks: Sequence[Look]) -> list[str]:
    """Rows of what was held; what of it grew too much."""
    last = looks[-1]
    report.row("page and server at the last look", heap_mb=_mb(last.heap_bytes), server_mb=_mb(last.server_bytes), looks=len(looks))
    found = growths(looks)
    for growth in found:
        first, second = _mb(growth.first_bytes), _mb(growth.second_bytes)
        report.row(growth.what, first_half_mb=first, second_half_mb=second, mb_an_hour=_mb(growth.bytes_an_hour))
    if not found:
        report.note(f"too short to say whether they grow: it takes {FILLED_S / 60:.0f} minutes to fill them, and {LOOKS_LEAST} looks")
    report.note("heap: the page's JS heap after a collection; server: what is its process's alone; it is not killed while a page is open")
    return [growth.what for growth in found if growth.share > GROWTH_MOST]


def _mb(size: float) -> float:
    return round(size / 1e6, 1)

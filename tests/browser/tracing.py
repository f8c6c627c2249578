"""What a page's main thread did in each frame, from a trace of the browser."""

import bisect
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page

_CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline"]
_FRAME, _TASK = "FireAnimationFrame", "RunTask"


@dataclass(frozen=True)
class Frame:
    """One frame: how long the main thread was at work until the next one."""

    task_ms: float
    """By the wall clock: on a busy machine that includes what others did meanwhile."""
    cpu_ms: float
    """Of the thread itself."""


def traced(browser: Browser, page: Page, do: Callable[[], None]) -> list[Frame]:
    """The frames of a page while something is done."""
    browser.start_tracing(page=page, categories=_CATEGORIES)
    try:
        do()
    finally:
        trace = browser.stop_tracing()
    return frames_of(json.loads(trace)["traceEvents"])


def frames_of(events: list[dict[str, Any]]) -> list[Frame]:
    """The frames of the thread that has most of them, without the first and last, which are cut off."""
    [((pid, tid), _)] = Counter((event["pid"], event["tid"]) for event in events if event["name"] == _FRAME).most_common(1)
    ours = [event for event in events if event["pid"] == pid and event["tid"] == tid]
    begins = sorted(event["ts"] for event in ours if event["name"] == _FRAME)
    task_us, cpu_us = [0.0] * (len(begins) + 1), [0.0] * (len(begins) + 1)
    for event in ours:
        if event["name"] == _TASK and event["ph"] == "X":
            # The task that a frame begins in ends after its beginning.
            frame = bisect.bisect_right(begins, event["ts"] + event["dur"])
            task_us[frame] += event["dur"]
            cpu_us[frame] += event.get("tdur", event["dur"])
    return [Frame(task / 1000, cpu / 1000) for task, cpu in zip(task_us[2:-1], cpu_us[2:-1], strict=True)]

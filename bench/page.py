"""The chart page in Chromium: main-thread work of each frame while the chart shifts, and the heap as it goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

from bench.report import Report
from klinestream.runtime.config import Config
from tests.browser.live_candles import LiveCandles
from tests.browser.tracing import Frame, traced
from tests.serving import ServerProcess, Windows
from tests.stack import TestBroker, broker_with_topics

_SYMBOL = "BTCUSDT"
_HISTORY_S = 12 * 3600
_WATCHED_S = 30
_HEAP_LOOKS = 6
_HEAP_STEP_S = 60
_AIM_MS = 8.0
_VIEWS = {
    "windows": "",
    "1m, all overlays and panes": "&interval=1m&show=sma,ema,bollinger,vwap&panes=volume,rsi,macd",
}
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def measure(report: Report, folder: Path) -> None:
    """Shifting live, then dragging, in windows and in 1m candles; then the heap of the heavier view."""
    with broker_with_topics(folder / "broker") as broker:
        windows = Windows(broker.bootstrap_servers)
        candles = LiveCandles(broker.bootstrap_servers, _SYMBOL, Config())
        with candles.running(_HISTORY_S), windows.running({_SYMBOL: 60_000.0}):
            _serve(report, broker, folder)
        windows.close()
    report.note(
        f"a frame's work: all tasks of the main thread until the next one, traced for {_WATCHED_S} s; aim: p95 below {_AIM_MS:g} ms"
    )
    report.note("wall: by the clock, with what other processes took; cpu: the thread's own time")
    report.note(f"heap after a collection, every {_HEAP_STEP_S} s; {_HISTORY_S // 3600} h of history, two windows and one kline a second")


def _serve(report: Report, broker: TestBroker, folder: Path) -> None:
    server = ServerProcess(broker.bootstrap_servers, folder / "server.log")
    server.start()
    try:
        with sync_playwright() as playwright:
            path = next((found for name in _NAMES if (found := shutil.which(name))), None)
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            for name, query in _VIEWS.items():
                _frames(report, browser, server, name, query)
            _heap(report, browser, server)
            browser.close()
    finally:
        server.close()


def _open(browser: Browser, server: ServerProcess, query: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 760}).new_page()
    page.goto(f"{server.url}/chart?symbol={_SYMBOL}{query}")
    expect(page.locator("#notice")).to_be_hidden(timeout=30_000)
    expect(page.locator("#plot .overplot path").first).to_be_attached(timeout=30_000)
    return page


def _frames(report: Report, browser: Browser, server: ServerProcess, name: str, query: str) -> None:
    page = _open(browser, server, query)
    page.wait_for_timeout(2000)
    _row(report, f"{name}: shifting live", traced(browser, page, lambda: page.wait_for_timeout(_WATCHED_S * 1000)))
    _row(report, f"{name}: dragged", traced(browser, page, _drag(page)))
    page.context.close()


def _drag(page: Page) -> Callable[[], None]:
    def drag() -> None:
        page.mouse.move(300, 300)
        page.mouse.down()
        for step in range(150):
            page.mouse.move(300 + 4 * step, 300)
        page.mouse.up()

    return drag


def _row(report: Report, what: str, frames: list[Frame]) -> None:
    def percentiles(values: list[float]) -> dict[str, float]:
        p50, p95, most = np.percentile(np.asarray(values), [50, 95, 100])
        return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "max": round(float(most), 2)}

    found: dict[str, Any] = {"frames": len(frames)}
    for name, values in (("wall", [frame.task_ms for frame in frames]), ("cpu", [frame.cpu_ms for frame in frames])):
        found |= {f"{name}_{key}_ms": value for key, value in percentiles(values).items()}
    report.row(what, **found)


def _heap(report: Report, browser: Browser, server: ServerProcess) -> None:
    page = _open(browser, server, _VIEWS["1m, all overlays and panes"])
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    for look in range(_HEAP_LOOKS):
        if look:
            page.wait_for_timeout(_HEAP_STEP_S * 1000)
        used, nodes = _held(session)
        report.row(f"heap after {look * _HEAP_STEP_S} s", heap_mb=round(used / 2**20, 2), dom_nodes=nodes)
    page.context.close()


def _held(session: CDPSession) -> tuple[float, int]:
    """Bytes of the heap, and the number of nodes, after a collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"], int(metrics["Nodes"])

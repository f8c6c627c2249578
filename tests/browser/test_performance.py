"""How the chart works in a frame: what it must not do, whatever the machine. `python -m bench page` measures how long it takes."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import CANDLE_SYMBOLS, MOVING, Watched
from tests.browser.tracing import traced
from tests.eventually import eventually
from tests.integration.rest_server import Market
from tests.serving import ServerProcess, Windows

pytestmark = pytest.mark.soak

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
WATCHED_MS = 3000
COUNT_DRAWS = "() => { const { react } = Plotly; window.draws = 0; Plotly.react = (...all) => { draws += 1; return react(...all); }; }"


def opened(server: ServerProcess, open_page: OpenPage, query: str) -> Page:
    """The page, drawn, its drawings counted from now on."""
    page = open_page(f"{server.url}/chart?{query}", **MOVING).page
    expect(page.locator("#notice")).to_be_hidden()
    eventually(lambda: page.evaluate("document.getElementById('plot').data?.length > 0"), WAIT_S, "the chart is drawn")
    page.evaluate(COUNT_DRAWS)
    return page


def test_windows_are_drawn_once_a_batch_and_shifted_in_between(
    server: ServerProcess, windows: Windows, browser: Browser, open_page: OpenPage
) -> None:
    """The main thread draws about once a second; each other frame only moves layers."""
    with windows.running({"SPEEDUSDT": 61_000.0}):
        page = opened(server, open_page, "symbol=SPEEDUSDT")
        frames = traced(browser, page, lambda: page.wait_for_timeout(WATCHED_MS))
        draws = page.evaluate("draws")
    assert 1 <= draws <= 2 * WATCHED_MS / 1000 + 2
    assert len(frames) > 3 * draws, "most frames draw nothing"


def test_a_drag_draws_far_less_often_than_it_moves(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """The pointer's moves shift what is drawn; drawing anew has its own, slower beat."""
    assert candles.records
    page = opened(server, open_page, f"symbol={CANDLE_SYMBOLS[0]}&interval=1m&panes=volume,rsi,macd&show=sma,ema,bollinger,vwap")
    frames = page.evaluate(
        """async () => {
            const chart = document.getElementById("chart");
            const mouse = { pointerId: 1, pointerType: "mouse", button: 0, clientY: 400, bubbles: true };
            const at = (type, clientX) => chart.dispatchEvent(new PointerEvent(type, { ...mouse, clientX }));
            chart.setPointerCapture = () => {}; // there is no real pointer to capture
            at("pointerdown", 700);
            let frames = 0;
            for (const end = performance.now() + 1500; performance.now() < end; frames += 1) {
                await new Promise(requestAnimationFrame);
                at("pointermove", 700 - 2 * frames);
            }
            at("pointerup", 0);
            return frames;
        }"""
    )
    draws = page.evaluate("draws")
    assert draws >= 2, "what comes into view is drawn"
    assert draws <= 1500 / 200 + 3
    assert draws < frames


def test_few_elements_draw_many_candles(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """The number of elements doesn't grow with the candles in view, and not with time."""
    assert candles.records
    page = opened(server, open_page, f"symbol={CANDLE_SYMBOLS[0]}&interval=1m&signals=0&span=900000")
    paths = "document.querySelectorAll('#plot .overplot path').length"
    few = page.evaluate(paths)
    page.mouse.move(600, 400)
    page.mouse.wheel(0, 2000)
    expect(page).not_to_have_url(re.compile("span=900000"))
    eventually(lambda: page.evaluate("draws") > 1, WAIT_S, "more candles are drawn")
    # Each kind of mark is an element or two of its own, each candle is none.
    assert page.evaluate(paths) <= few + 10 < len(candles.klines[CANDLE_SYMBOLS[0]]) / 60
    nodes = page.evaluate("document.querySelectorAll('*').length")
    eventually(lambda: page.evaluate("draws") > 4, WAIT_S, "it has been drawn again")
    assert page.evaluate("document.querySelectorAll('*').length") <= nodes + 30

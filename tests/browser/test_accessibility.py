"""The chart's page by axe-core: what a reader with a keyboard, a screen reader or weak eyes meets."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import assert_accessible
from tests.browser.conftest import CANDLE_SYMBOLS, Watched
from tests.eventually import eventually
from tests.serving import ServerProcess

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
NARROW: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
_FOCUSED = """() => {
    const focused = document.activeElement;
    return [focused.id || focused.textContent.trim(), getComputedStyle(focused).outlineWidth];
}"""
pytestmark = pytest.mark.usefixtures("candles")


def chart(server: ServerProcess, open_page: OpenPage, **context: Any) -> Page:
    """Candles with all that can be drawn."""
    link = f"{server.url}/chart?symbol={CANDLE_SYMBOLS[0]}&interval=1m&show=sma,ema,bollinger,vwap&panes=volume,rsi,macd"
    page = open_page(link, **context).page
    expect(page.locator("#notice")).to_be_hidden()
    eventually(lambda: page.evaluate("document.getElementById('plot').data?.length > 0"), WAIT_S, "candles are drawn")
    return page


@pytest.mark.parametrize(
    "context", [{"color_scheme": "dark"}, {"color_scheme": "light"}, {"color_scheme": "dark", **NARROW}], ids=["dark", "light", "narrow"]
)
def test_the_chart_is_accessible(server: ServerProcess, open_page: OpenPage, context: dict[str, Any]) -> None:
    """As it opens, with each panel and dialog, and in a replay: no serious or critical finding."""
    page = chart(server, open_page, **context)
    assert_accessible(page)
    for key, opened in (("e", "#export"), ("?", "#help"), ("/", "#chooser")):
        page.keyboard.press(key)
        expect(page.locator(opened)).to_be_visible()
        assert_accessible(page)
        page.keyboard.press("Escape")
        expect(page.locator(opened)).to_be_hidden()
    page.keyboard.press("r")
    page.locator("#indicators-open").click()
    expect(page.locator("#replay")).to_be_visible()
    assert_accessible(page)


def test_without_data_the_page_is_accessible_too(server: ServerProcess, open_page: OpenPage) -> None:
    """The notice that stands where the chart would be."""
    page = open_page(f"{server.url}/chart?symbol=NOTHINGUSDT").page
    expect(page.locator("#notice")).to_contain_text("NOTHINGUSDT")
    assert_accessible(page)


def test_all_controls_are_reached_by_tab_and_show_it(server: ServerProcess, open_page: OpenPage) -> None:
    """Tab goes through every control in the order in which they stand, each with a visible outline."""
    page = chart(server, open_page)
    outlined: list[str] = []
    for _ in range(21):
        page.keyboard.press("Tab")
        name, width = page.evaluate(_FOCUSED)
        if name == "klinestream" and outlined:
            break
        assert width != "0px", name
        outlined.append(name)
    intervals = ["Windows", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
    tools = ["indicators-open", "live", "replay-open", "export-open", "theme", "help-open"]
    wanted = ["klinestream", "chooser-open", "Market", "Graph", "Status", *intervals, *tools]
    assert [name for name in outlined if name in wanted] == wanted

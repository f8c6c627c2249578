"""The graph's page in a real browser: three markets of their own on a real broker, drawn, searched, and told in a table."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from playwright.sync_api import Page, expect

from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import CANDLES
from klinestream.runtime.kafka import Record
from tests.browser.axe import assert_accessible
from tests.browser.conftest import Watched
from tests.eventually import eventually
from tests.serving import ServerProcess, now_ms
from tests.stack import TestBroker
from tests.topics import publish

OpenPage = Callable[..., Watched]
TREES = "ALDER ASH BEECH BIRCH CEDAR ELM FIR HAZEL LARCH LIME MAPLE OAK PINE POPLAR ROWAN SPRUCE WILLOW YEW"
SYMBOLS = [f"{tree}USDT" for tree in TREES.split()]
"""No other test has them."""
MARKETS = 3
CANDLES_THERE = {"1m": 130, "5m": 4}
"""Of 5m too few for any correlation."""
WAIT_S = 20.0
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}}
# A copy: reading a canvas back again and again makes it slow, of which the browser warns.
_DATA = """
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
    const colourAt = (i) => (data[i + 3] === 255 ? (data[i] << 16) | (data[i + 1] << 8) | data[i + 2] : -1);
"""
_PIXELS = f"""canvas => {{{_DATA}
    const found = new Set();
    for (let i = 0; i < data.length; i += 4) found.add(colourAt(i));
    found.delete(-1);
    return [...found];
}}"""
_FIRST_PIXEL = f"""(canvas, colour) => {{{_DATA}
    const wanted = parseInt(colour.slice(1), 16);
    for (let i = 0; i < data.length; i += 4) if (colourAt(i) === wanted) return [i / 4 % canvas.width, Math.floor(i / 4 / canvas.width)];
}}"""


def candles_of(symbol: str, place: int, interval: str, end_ms: int) -> Iterator[Record]:
    """Its market's walk and a little of its own; the last symbol goes against its market."""
    length_ms, count = INTERVALS[interval], CANDLES_THERE[interval]
    market = np.random.default_rng(place % MARKETS).normal(0, 0.002, count)
    own = np.random.default_rng(100 + place).normal(0, 0.001, count)
    prices = 50 * np.exp((market * (-1 if symbol == SYMBOLS[-1] else 1) + own).cumsum())
    for number, price in enumerate(prices):
        opened_ms = end_ms // length_ms * length_ms - (count - number) * length_ms
        told = {
            **{"s": symbol, "i": interval, "t": opened_ms, "T": opened_ms + length_ms - 1},
            **dict.fromkeys("ohlc", f"{price:.8f}"),
            **dict.fromkeys("vqVQ", "1.00000000"),
            **{"n": 10, "f": None, "L": None, "klines": 0, "complete": True, "origin": "history", "revision": 1},
        }
        yield Record(CANDLES.name, symbol.encode(), orjson.dumps(told), opened_ms + length_ms - 1)


@pytest.fixture(scope="module")
def graph_server(broker: TestBroker, server: ServerProcess) -> ServerProcess:
    """The server of all pages, once it has read these candles too."""
    end_ms = now_ms()
    series = [(place, name, interval) for place, name in enumerate(SYMBOLS) for interval in CANDLES_THERE]
    publish(broker.bootstrap_servers, [record for place, name, interval in series for record in candles_of(name, place, interval, end_ms)])
    eventually(lambda: min(asked(server, candles="130")["nodes"]["candles"]) == 130, WAIT_S, "the server holds the candles")
    return server


def asked(server: ServerProcess, **params: str) -> dict[str, Any]:
    try:
        answer = server.http.get("/api/v1/correlations", params={"symbols": ",".join(SYMBOLS), **params})
    except httpx.TransportError as error:
        raise AssertionError(error) from error
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def opened(server: ServerProcess, open_page: OpenPage, search: str = "", **context: Any) -> Page:
    page = open_page(f"{server.url}/graph?symbols={','.join(SYMBOLS)}{search}", **context).page
    expect(page.locator("#count")).to_contain_text(f"{len(SYMBOLS)} symbols")
    return page


def colours(page: Page) -> set[str]:
    return {f"#{number:06x}" for number in page.locator("#drawing").evaluate(_PIXELS)}


def group_colours(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[1, 2, 3, 4].map(i => getComputedStyle(document.documentElement).getPropertyValue(`--group-${i}`).trim())"
    )
    return found


def test_groups_are_drawn_and_pairs_are_told(graph_server: ServerProcess, open_page: OpenPage) -> None:
    """Three groups in three colours, in both themes; the table has the pairs that the server has, strongest first, with their numbers."""
    page = opened(graph_server, open_page)
    answer = asked(graph_server, least="0.6")
    expect(page.locator("#legend li")).to_have_count(MARKETS)
    assert set(group_colours(page)[:3]) <= colours(page)
    assert group_colours(page)[3] not in colours(page)
    rows = page.locator("#pairs tr")
    expect(rows).to_have_count(len(answer["edges"]["r"]))
    first = [answer["edges"][name][0] for name in ("a", "b", "r", "observations")]
    expect(rows.first).to_contain_text(f"{first[0][:-4]} · {first[1][:-4]}{first[2]:.3f}{first[3]}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    before = group_colours(page)
    page.keyboard.press("t")
    eventually(lambda: group_colours(page) != before and set(group_colours(page)[:3]) <= colours(page), WAIT_S, "the other theme is drawn")


def test_a_symbol_tells_its_partners_and_opens_its_chart(graph_server: ServerProcess, open_page: OpenPage) -> None:
    """By keyboard and by pointer: the strongest partners stand beside it; a click and Enter open the chart of the same interval."""
    page = opened(graph_server, open_page)
    page.locator("#drawing").focus()
    page.keyboard.press("ArrowRight")
    hint = page.locator("#hint")
    first = min(SYMBOLS)
    expect(hint.locator("h2")).to_have_text(first)
    edges = asked(graph_server, least="0.6")["edges"]
    strongest = next(b if a == first else a for a, b in zip(edges["a"], edges["b"], strict=True) if first in (a, b))
    expect(hint.locator("dt").first).to_have_text(strongest)
    page.keyboard.press("Escape")
    expect(hint).to_be_hidden()
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    x, y = page.locator("#drawing").evaluate(_FIRST_PIXEL, group_colours(page)[0])
    page.mouse.move(box["x"] + x, box["y"] + y + 3)
    symbol = hint.locator("h2").inner_text()
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(f"**/chart?symbol={symbol}&interval=1m*")


def test_choices_stand_in_the_link(graph_server: ServerProcess, open_page: OpenPage) -> None:
    """Interval, window, strength and search, there and back; the search leaves the pairs of what it finds."""
    page = opened(graph_server, open_page)
    page.locator("#candles").select_option("60")
    page.locator("#least").fill("0.8")
    page.keyboard.press("/")
    page.keyboard.type("oak")
    page.wait_for_url("**/graph?find=oak&*&candles=60&least=0.8")
    expect(page.locator("#window")).to_contain_text("60 × 1m")
    edges = asked(graph_server, least="0.8", candles="60")["edges"]
    wanted = [pair for pair in zip(edges["a"], edges["b"], strict=True) if "OAKUSDT" in pair]
    expect(page.locator("#pairs tr")).to_have_count(len(wanted))
    page.reload()
    expect(page.locator("#pairs tr")).to_have_count(len(wanted))
    expect(page.locator("#find")).to_have_value("oak")
    expect(page.locator("#least-value")).to_have_text("0.80")
    page.locator("#find").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#pairs tr")).to_have_count(len(edges["r"]))


def test_too_little_data_says_what_is_missing(graph_server: ServerProcess, open_page: OpenPage) -> None:
    """How many candles a correlation needs and how many there are; an interval without any; a strength that no pair has."""
    page = opened(graph_server, open_page, "&interval=5m")
    expect(page.locator("#notice-title")).to_have_text("Needs 31 closed candles, has 4")
    assert_accessible(page)
    page.locator("[data-interval='1d']").click()
    expect(page.locator("#notice-title")).to_have_text("No candle has closed yet")
    page.locator("[data-interval='1m']").click()
    page.locator("#least").fill("0.95")
    expect(page.locator("#notice-title")).to_have_text("No pair reaches 0.95")


@pytest.mark.parametrize("context", [{}, PHONE], ids=["wide", "phone"])
def test_the_page_is_accessible(graph_server: ServerProcess, open_page: OpenPage, context: dict[str, Any]) -> None:
    """No serious finding, with a symbol's partners shown, in both themes; and nothing is wider than a narrow screen."""
    page = opened(graph_server, open_page, **context)
    page.locator("#drawing").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hint")).to_be_visible()
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if not context:
        page.keyboard.press("t")
        assert_accessible(page)


def test_a_server_that_cannot_be_reached_is_told(graph_server: ServerProcess, open_page: OpenPage) -> None:
    """What was drawn stays, and the badge says that it is lost; once there is a way again the page goes on by itself."""
    page = opened(graph_server, open_page, server_dies=True)
    page.context.set_offline(True)
    page.locator("[data-interval='5m']").click()
    expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    expect(page.locator("#pairs tr").first).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#notice-title")).to_have_text("Needs 31 closed candles, has 4")
    expect(page.locator("#connection")).not_to_have_attribute("data-state", "reconnecting")

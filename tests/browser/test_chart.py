"""The page in a real browser: what a trader sees, fed by windows on a real broker."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from klinestream.market.events import Window
from tests.browser.conftest import MOVING, Watched
from tests.eventually import eventually
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
PRICES = {"BTCUSDT": 61_234.12, "ETHUSDT": 2612.4, "PEPEUSDT": 0.00001234, "BIGIDR": 1.5e9}


@pytest.fixture
def market(windows: Windows, server: ServerProcess) -> Iterator[None]:
    """Four symbols of very different prices, two windows a second each."""
    with windows.running(PRICES):
        eventually(server.ready, WAIT_S, "the server is ready")
        yield


def live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def drawn(page: Page) -> list[int]:
    """Ends of the windows in the price line."""
    return [time for time, _ in price_line(page)]


def price_line(page: Page) -> list[tuple[int, float]]:
    """The points of the price line: a window's end, and the price there."""
    points: list[tuple[int, float]] = page.evaluate(
        """() => (document.getElementById("plot").data ?? []).filter((trace) => trace.mode === "lines" && trace.line.width === 2)
                 .flatMap((trace) => trace.x.map((time, i) => [time, trace.y[i]])).filter(([_, price]) => price !== null)"""
    )
    return points


def unbroken(ends: list[int]) -> bool:
    """Whether each second has its point; of the oldest one the first window may have left already."""
    return all(later - earlier == 1000 for earlier, later in pairwise(ends[1:]))


def btc_at(end_ms: int) -> Window:
    """The market's window of BTCUSDT."""
    return window_at("BTCUSDT", end_ms, 0, price=PRICES["BTCUSDT"])


def time_of_day(time: int) -> str:
    """As the page shows it."""
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%H:%M:%S.%f")[:-5]


def place_of(page: Page, time: int) -> tuple[int, float]:
    """The page's clock, and where the vertical gridline or point of this time is on the screen then, pixels."""
    now, place = page.evaluate(
        """(time) => {
            const plot = document.getElementById("plot");
            const { _offset, range, _length } = plot._fullLayout.xaxis;
            const [left, right] = range.map((end) => (typeof end === "number" ? end : Date.parse(end.replace(" ", "T") + "Z")));
            const layer = plot.querySelector(".overplot > g > g");
            const shift = layer.style.transform ? new DOMMatrix(getComputedStyle(layer).transform).m41 : 0;
            return [Date.now(), _offset + ((time - left) / (right - left)) * _length + shift];
        }""",
        time,
    )
    return now, place


def module(page: Page, name: str, expression: str) -> Any:
    """Evaluate an expression with a module of the page in scope as `m`."""
    return page.evaluate(f"async () => {{ const m = await import('/static/js/{name}.js'); return {expression}; }}")


@pytest.mark.usefixtures("market")
def test_the_chart_draws_what_is_in_the_topic(server: ServerProcess, open_page: OpenPage) -> None:
    """Each second's close of two minutes is drawn, the last one stands in the headline, and new ones join."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT").page
    live(page)
    eventually(lambda: len(drawn(page)) >= 115, WAIT_S, "two minutes are drawn")
    line = price_line(page)
    first = [end for end, _ in line]
    assert unbroken(first)
    assert [price for _, price in line] == [btc_at(end).close for end in first]
    eventually(lambda: drawn(page)[-1] >= first[-1] + 2000, WAIT_S, "new windows are drawn")
    expect(page.locator("#price")).to_have_text(re.compile(r"6\d,\d{3}\.\d\d"))
    expect(page.locator("#symbol")).to_have_text("BTC / USDT")
    expect(page.locator("#notice")).to_be_hidden()
    paths = page.locator("#plot .overplot path.js-line, #plot .overplot path.js-fill")
    assert paths.count() >= 6


@pytest.mark.usefixtures("market")
def test_the_chart_shifts_with_time(server: ServerProcess, open_page: OpenPage) -> None:
    """A moment drawn at the right moves left as fast as time passes, frame by frame, not in jumps of an update."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT", **MOVING).page
    live(page)
    steps, draws = page.evaluate(
        """async (mostMs) => {
            const found = new Set();
            const layer = () => document.querySelector("#plot .overplot > g > g");
            const react = Plotly.react;
            let draws = 0;
            Plotly.react = (...given) => { draws += 1; return react(...given); };
            const end = performance.now() + mostMs;
            // However few frames a second there are: what only moves with updates has as many places as these.
            while (found.size < draws + 10 && performance.now() < end) {
                await new Promise(requestAnimationFrame);
                found.add(new DOMMatrix(getComputedStyle(layer()).transform).m41);
            }
            Plotly.react = react;
            return [found.size, draws];
        }""",
        WAIT_S * 1000,
    )
    assert steps >= draws + 10, "the layers stand still between updates"
    moment = drawn(page)[-10]
    width = page.evaluate("document.getElementById('plot')._fullLayout.xaxis._length")
    at, before = place_of(page, moment)
    eventually(lambda: place_of(page, moment)[1] < before - 60, WAIT_S, "the moment has moved left")
    later, after = place_of(page, moment)
    # A frame may be late by some tenths of a second, of which each is a pixel.
    assert before - after == pytest.approx((later - at) * width / 120_000, abs=12)


@pytest.mark.usefixtures("market")
def test_another_symbol_is_chosen_by_keyboard(server: ServerProcess, open_page: OpenPage) -> None:
    """A letter opens the search, arrows and Enter choose; the link names the symbol, and going back works."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT").page
    live(page)
    page.keyboard.press("/")
    page.keyboard.type("eth")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/chart?symbol=ETHUSDT")
    expect(page.locator("#price")).to_have_text(re.compile(r"2,\d{3}\.\d\d"))
    eventually(lambda: len(drawn(page)) >= 115, WAIT_S, "two minutes of it are drawn")
    page.go_back()
    expect(page.locator("#price")).to_have_text(re.compile(r"6\d,\d{3}\.\d\d"))


@pytest.mark.usefixtures("market")
def test_a_link_without_symbol_shows_one_that_has_data(server: ServerProcess, open_page: OpenPage) -> None:
    """The root leads to a chart that draws."""
    page = open_page(server.url).page
    live(page)
    expect(page.locator("#symbol")).to_have_text("BTC / USDT")


@pytest.mark.usefixtures("market")
def test_the_chart_survives_a_server_restart(server: ServerProcess, open_page: OpenPage) -> None:
    """While the server is away the chart stays and says so; then it goes on by itself, without a hole."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT", server_dies=True).page
    live(page)
    before = drawn(page)
    server.kill()
    expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    expect(page.locator("#notice")).to_be_hidden()
    assert len(drawn(page)) >= 115
    server.start()
    live(page)
    eventually(lambda: drawn(page)[-1] > before[-1] + 1000, WAIT_S, "windows of after the restart are drawn")
    # What a server that reads its topic again leaves out of a burst comes with the page's next question.
    eventually(lambda: unbroken(drawn(page)), 2 * WAIT_S, "no second is missing")


def test_a_young_run_says_that_it_warms_up(server: ServerProcess, windows: Windows, open_page: OpenPage) -> None:
    """An RSI that has not converged is drawn dashed, and named."""
    with windows.running({"YOUNGUSDT": 5.0}, run_s=40):
        page = open_page(f"{server.url}/chart?symbol=YOUNGUSDT").page
        live(page)
        expect(page.locator("#legend-rsi")).to_contain_text("warming up")
        expect(page.locator("#stat-rsi")).to_contain_text("warming up")
        dashed = page.evaluate(
            "document.getElementById('plot').data.filter((trace) => trace.line?.dash).map((trace) => trace.y.filter(Number).length)"
        )
        assert dashed[0] > 20
        assert page.get_by_text("warming up").count() >= 3  # the third stands in the pane


def test_a_break_is_a_gap(server: ServerProcess, windows: Windows, open_page: OpenPage) -> None:
    """Between two runs the line is broken and the stretch is shaded and named."""
    now, symbol = now_ms() // 1000 * 1000, "BREAKUSDT"
    old = [window_at(symbol, end, now - 400_000) for end in ends_between(now - 110_000, now - 60_000)]
    new = [window_at(symbol, end, now - 40_000) for end in ends_between(now - 39_500, now)]
    windows.publish([*old, *new])
    page = open_page(f"{server.url}/chart?symbol={symbol}").page
    expect(page.get_by_text("no data for 21 s")).to_have_count(1)
    nulls = page.evaluate(
        "document.getElementById('plot').data.find((trace) => trace.line?.width === 2).y.filter((y) => y === null).length"
    )
    assert nulls == 1


def test_data_that_stops_becomes_stale_and_says_so(server: ServerProcess, windows: Windows, open_page: OpenPage) -> None:
    """Without new windows both badges change, and the time since is shaded; with new ones all is well again."""
    symbol = "STALEUSDT"
    with windows.running({symbol: 3.0}):
        page = open_page(f"{server.url}/chart?symbol={symbol}").page
        live(page)
        shapes = page.evaluate("document.getElementById('plot').layout.shapes.length")
    expect(page.locator("#connection")).to_have_attribute("data-state", "stale")
    expect(page.locator("#age")).to_have_attribute("data-state", "stale")
    eventually(lambda: page.evaluate("document.getElementById('plot').layout.shapes.length") == shapes + 1, WAIT_S, "a shade")
    with windows.running({symbol: 3.0}):
        live(page)


def test_a_symbol_without_data_explains_itself_and_starts_by_itself(server: ServerProcess, windows: Windows, open_page: OpenPage) -> None:
    """The empty state says what is awaited; the first window replaces it."""
    symbol = "EMPTYUSDT"
    page = open_page(f"{server.url}/chart?symbol={symbol}").page
    expect(page.locator("#notice")).to_contain_text(f"Waiting for the first window of {symbol}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "waiting")
    windows.publish([window_at(symbol, now_ms() // 500 * 500, now_ms() - 1000)])
    expect(page.locator("#notice")).to_be_hidden()


def test_a_symbol_that_cannot_be_is_refused_in_words(server: ServerProcess, open_page: OpenPage) -> None:
    """What the server answers to nonsense is shown, as text."""
    page = open_page(f"{server.url}/chart?symbol=%3Cimg%20src%3Dx%3E{'A' * 50}").page
    expect(page.locator("#notice")).to_contain_text("expected symbols")
    assert page.locator("img").count() == 0


@pytest.mark.usefixtures("market")
def test_the_pointer_shows_exact_values(server: ServerProcess, open_page: OpenPage) -> None:
    """Pointing at a moment shows that window's values and time, as they stand in the topic."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT").page
    live(page)
    box = page.locator("#plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    time = page.locator("#legend-price time")
    expect(time).to_have_text(re.compile(r"\d\d:\d\d:\d\d\.[05]"))
    expect(page.locator("#crosshair")).to_be_visible()
    told, *shown = page.evaluate("[...document.querySelectorAll('.legend time, .legend b')].map((element) => element.textContent)")
    now = now_ms()
    window = next(btc_at(end) for end in ends_between(now - 200_000, now) if time_of_day(end) == told)
    prices = (window.close, window.average_price, window.low, window.high)
    close, average, low, high = (f"{price:,.2f}" for price in prices)
    assert shown == [close, average, f"{low} – {high}", f"{window.volume:.4g}", f"{window.rsi:.2f}"]
    page.mouse.move(5, 5)
    expect(page.locator("#crosshair")).to_be_hidden()


@pytest.mark.usefixtures("market")
def test_a_phone_shows_all_of_it(server: ServerProcess, open_page: OpenPage) -> None:
    """At phone width nothing lies outside the screen, and the three panes are there."""
    page = open_page(f"{server.url}/chart?symbol=PEPEUSDT", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True).page
    live(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#plot svg").first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 780
    expect(page.locator("#price")).to_have_text(re.compile(r"0\.00001\d{3}"))


@pytest.mark.usefixtures("market")
def test_reduced_motion_steps_instead_of_scrolling(server: ServerProcess, open_page: OpenPage) -> None:
    """Who asked for less motion gets a chart that moves once a second."""
    page = open_page(f"{server.url}/chart?symbol=BTCUSDT").page
    live(page)
    moves = page.evaluate(
        """async () => {
            const found = new Set();
            const end = performance.now() + 1500;
            while (performance.now() < end) {
                await new Promise(requestAnimationFrame);
                found.add(document.querySelector("#plot .overplot > g > g").style.transform);
            }
            return found.size;
        }"""
    )
    assert moves <= 4


def test_prices_have_the_decimals_that_fit(server: ServerProcess, open_page: OpenPage) -> None:
    """From 0.00001234 to 1.5e9; a difference has a true minus."""
    page = open_page(f"{server.url}/chart").page
    prices = [0.00001234, 0.3345, 1.5, 61234.123, 1.5e9, 0]
    shown = module(page, "format", f"{json.dumps(prices)}.map((price) => m.showPrice(price))")
    assert shown == ["0.00001234", "0.33450", "1.5000", "61,234.12", "1,500,000,000", "0.00"]
    assert module(page, "format", "[-1.5, 0.001, -0.001].map((difference) => m.showDifference(difference, 2))") == ["−1.50", "0.00", "0.00"]
    assert module(page, "format", "[-400, 1234, 65000, 600000].map(m.showAge)") == ["0.0 s", "1.2 s", "65 s", "10 min"]


def test_the_page_holds_windows_as_the_server_does(server: ServerProcess, open_page: OpenPage) -> None:
    """On the page too, the highest revision counts, then the earliest since, in whatever order they come."""
    page = open_page(f"{server.url}/chart").page
    base = {"window_start": 0, "close": 1, "points": 3}
    claims = [
        {**base, "window_end": 500 * end, "since": since, "revision": revision}
        for end in (7, 6)
        for since, revision in ((2, 0), (1, 0), (3, 1))
    ]
    for order in (claims, claims[::-1], claims[2:] + claims[:2]):
        held = module(page, "series", f"(() => {{ const s = new m.Series(120000); s.add({json.dumps(order)}); return s.windows; }})()")
        assert [(window["window_end"], window["since"], window["revision"]) for window in held] == [(3000, 3, 1), (3500, 3, 1)]


def test_windows_of_the_same_klines_are_drawn_once(server: ServerProcess, open_page: OpenPage) -> None:
    """Each second has one point, in quiet stretches too, and an unchanged price keeps the direction of its volume's bar."""
    page = open_page(f"{server.url}/chart").page
    closes = [5.0, 4.0, 4.0, 4.0, 6.0]
    windows = [
        {"window_start": end - 3000, "window_end": end, "close": close, "average_price": close, "points": 3, "since": 0, "revision": 0}
        for second, close in enumerate(closes, start=10)
        for end in (1000 * second, 1000 * second + 500)
    ]
    columns = module(page, "traces", f"m.columns({{ windows: {json.dumps(windows)}, broken: () => [] }})")
    assert columns["time"] == [10_000, 11_000, 12_000, 13_000, 14_000]
    assert columns["close"] == closes
    assert columns["rising"] == [True, False, False, False, True]

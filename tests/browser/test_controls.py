"""The chart's controls in a real browser: the link, keys, theme, replay, export, search, and the thumb."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.browser.conftest import CANDLE_SYMBOLS, Watched
from tests.eventually import eventually
from tests.integration.rest_server import Market
from tests.serving import ServerProcess, Windows

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
MINUTE_MS = 60_000
SYMBOL = CANDLE_SYMBOLS[0]
PHONE: dict[str, Any] = {"viewport": ViewportSize(width=390, height=780), "has_touch": True, "is_mobile": True}


@pytest.fixture
def live_windows(windows: Windows, server: ServerProcess) -> Iterator[None]:
    """Windows of SYMBOL, two a second."""
    with windows.running({SYMBOL: 500.0}):
        eventually(server.ready, WAIT_S, "the server is ready")
        yield


@pytest.fixture
def bare(server: ServerProcess, open_page: OpenPage) -> Page:
    """A page of the server's that runs nothing, to import modules into."""
    page: Page = open_page("about:blank").page
    page.route("**/favicon.ico", lambda route: route.fulfill(body=""))  # a page that names no icon is asked for one
    page.goto(f"{server.url}/healthz")
    return page


def module(page: Page, name: str, expression: str) -> Any:
    """Evaluate an expression with a module of the page in scope as `m`."""
    return page.evaluate(f"async () => {{ const m = await import('/static/js/{name}.js'); return {expression}; }}")


def choose_candles(server: ServerProcess, open_page: OpenPage, more: str = "", **context: Any) -> Page:
    """The chart of 1m candles, drawn."""
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}&interval=1m{more}", **context).page
    expect(page.locator("#notice")).to_be_hidden()
    eventually(lambda: page.evaluate("document.getElementById('plot').data?.length > 0"), WAIT_S, "candles are drawn")
    return page


def pressed(page: Page) -> str | None:
    """The interval that the toolbar shows."""
    return page.locator("#intervals [aria-pressed=true]").text_content()


def box(page: Page, name: str) -> Locator:
    """A box of the indicators' panel."""
    return page.locator("#indicators").get_by_role("checkbox", name=name)


def exported(page: Page, kind: str, folder: Path) -> Path:
    """What an export of this kind saves."""
    if not page.locator("#export").is_visible():
        page.keyboard.press("e")
    with page.expect_download() as started:
        page.locator(f"#export-{kind}").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_link_holds_all_choices_and_nothing_more(bare: Page) -> None:
    """What was written is read again; the defaults stay out; what can't be is as if it weren't there."""
    links = [
        "?symbol=BTCUSDT",
        "?symbol=BTCUSDT&interval=5m&show=sma,bollinger,vwap&panes=volume,rsi,macd&signals=0&at=1790000000000&span=7200000",
        "?symbol=ETHBTC&show=none&panes=none",
        "?symbol=BTCUSDT&panes=volume,book&depth=1",
        "?symbol=A%26B%2F%C3%89&interval=1d",
    ]
    assert module(bare, "link", f"{json.dumps(links)}.map((link) => m.writeLink(m.readLink(link)))") == links
    odd = "?symbol=btcusdt&interval=7m&show=sma,magic&panes=&signals=yes&at=-5&span=1e3&at=9"
    assert module(bare, "link", f"m.writeLink(m.readLink({json.dumps(odd)}))") == "?symbol=BTCUSDT&show=sma"
    assert module(bare, "link", "m.readLink('?at=99999999999999999').at") is None


@pytest.mark.usefixtures("candles")
def test_choices_go_into_the_link_and_back_undoes_them(server: ServerProcess, open_page: OpenPage) -> None:
    """Interval and symbol are steps of the history; ticks of the panel change the step that one is at."""
    page = choose_candles(server, open_page)
    page.locator("#indicators-open").click()
    expect(page.locator("#indicators-open")).to_have_attribute("aria-expanded", "true")
    box(page, "SMA").check()
    box(page, "RSI").uncheck()
    box(page, "Signals").uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#indicators-open")).to_have_attribute("aria-expanded", "false")
    ticked = f"{server.url}/chart?symbol={SYMBOL}&interval=1m&show=sma,ema&panes=volume&signals=0"
    expect(page).to_have_url(ticked)
    page.get_by_role("button", name="5m", exact=True).click()
    expect(page).to_have_url(ticked.replace("1m", "5m"))
    page.go_back()
    expect(page).to_have_url(ticked)
    assert pressed(page) == "1m"
    page.go_forward()
    assert pressed(page) == "5m"
    page.reload()
    assert pressed(page) == "5m"
    page.locator("#indicators-open").click()
    ticks = page.evaluate(
        "[...document.querySelectorAll('#indicators :checked')].map((box) => box.dataset.show ?? box.dataset.pane ?? box.id)"
    )
    assert ticks == ["sma", "ema", "volume"]


def test_windows_say_what_they_do_not_have(server: ServerProcess, open_page: OpenPage) -> None:
    """What belongs to candles can't be ticked for windows, and is still ticked for candles then."""
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}").page
    page.locator("#indicators-open").click()
    expect(page.locator("#indicators-note")).to_be_visible()
    expect(box(page, "EMA")).to_be_disabled()
    expect(box(page, "RSI")).to_be_enabled()
    page.keyboard.press("2")
    expect(box(page, "EMA")).to_be_enabled()
    expect(box(page, "EMA")).to_be_checked()


def test_a_theme_is_remembered_and_the_first_paint_has_it(server: ServerProcess, open_page: OpenPage) -> None:
    """T leads away from the machine's theme, then through the others; a reload shows the same before any module has run."""
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}", color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.keyboard.press("t")
    expect(page.locator("#said")).to_have_text("Theme: light")
    light = page.evaluate(ground)
    assert light != dark
    page.route("**/main.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.reload()
    assert page.evaluate(ground) == light
    page.unroute("**/main.js")
    page.reload()
    for said, colour in (("Theme: dark", dark), ("Theme: as the machine has it", dark)):
        page.keyboard.press("t")
        expect(page.locator("#said")).to_have_text(said)
        assert page.evaluate(ground) == colour
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light
    assert module(page, "theme", "['auto', 'dark', 'light'].map((choice) => m.nextTheme(choice, true))") == ["dark", "light", "auto"]


def test_each_key_means_one_thing(bare: Page) -> None:
    """The whole map of keys."""
    keys = ["ArrowLeft", "ArrowRight", "+", "-", "Home", "End", " ", "r", "T", "e", "?", "Escape"]
    names = ["back", "forward", "nearer", "wider", "oldest", "live", "pause", "replay", "theme", "export", "help", "escape"]
    assert module(bare, "keyboard", f"{json.dumps(keys)}.map((key) => m.commandOf({{ key }}).name)") == names
    intervals = ["windows", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
    assert module(bare, "keyboard", "[...'12345678'].map((key) => m.commandOf({ key }).of)") == intervals
    search = [{"name": "search", "of": ""}, {"name": "search", "of": "B"}]
    assert module(bare, "keyboard", "[m.commandOf({ key: '/' }), m.commandOf({ key: 'b' })]") == search
    assert module(bare, "keyboard", "['9', '0', 'F5', 'Tab', 'Enter', 'é'].map((key) => m.commandOf({ key }))") == [None] * 6
    assert module(bare, "keyboard", "m.commandOf({ key: 'ArrowLeft', shiftKey: true }).name") == "farBack"


@pytest.mark.usefixtures("candles")
def test_keys_reach_only_what_has_no_use_for_them(server: ServerProcess, open_page: OpenPage) -> None:
    """In the search they are letters, Space presses a button that was reached by Tab, and a browser's own shortcut stays its own."""
    page = choose_candles(server, open_page)
    page.keyboard.press("d")
    page.keyboard.type("rt2")
    expect(page.locator("#chooser-input")).to_have_value("Drt2")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+5")
    page.get_by_role("button", name="Help").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("dialog", name="Keys and marks")).to_be_visible()
    page.keyboard.press("2")
    page.keyboard.press("Escape")
    assert pressed(page) == "1m"
    expect(page.locator("#live-text")).to_have_text("Pause")
    page.get_by_role("button", name="5m", exact=True).click()
    page.keyboard.press("Space")
    expect(page.locator("#live-text")).to_have_text("Go live")
    assert pressed(page) == "5m"


@pytest.mark.usefixtures("candles")
def test_space_holds_the_chart_and_the_link_says_where(server: ServerProcess, open_page: OpenPage) -> None:
    """Paused or moved back, the button leads to live and the link has the time; live again it has none."""
    page = choose_candles(server, open_page)
    page.keyboard.press("Space")
    expect(page.locator("#live-text")).to_have_text("Go live")
    expect(page).to_have_url(re.compile(r"at=\d{13}"))
    page.keyboard.press("End")
    expect(page.locator("#live-text")).to_have_text("Pause")
    expect(page).to_have_url(f"{server.url}/chart?symbol={SYMBOL}&interval=1m")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page).to_have_url(re.compile(r"at=\d{13}"))
    page.locator("#live").click()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"span=\d+"))


def test_a_replay_clock_keeps_within_what_is_known(bare: Page) -> None:
    """It runs at its speed, stands at the end, skips nothing while the page is hidden, and steps from candle to candle."""
    assert module(bare, "replay-clock", "[null, 6e4, 36e5].map((length) => m.speedsFor(length).at(-1))") == [600, 600, 3600]
    assert module(bare, "replay-clock", "[null, 6e4, 3e5, 864e5].map(m.usualSpeed)") == [1, 60, 600, 86_400]
    told = module(
        bare,
        "replay-clock",
        """(() => {
            const clock = new m.ReplayClock({ from: 1000, to: 100_000 }, -5);
            const seen = [clock.time];
            clock.speed = 60;
            clock.play(500);
            seen.push(clock.tick(490), clock.tick(600), clock.tick(60_600), clock.playing);
            clock.pause();
            seen.push(clock.tick(70_000));
            clock.step(20_000);
            seen.push(clock.time);
            clock.play(0);
            for (let at = 0; at < 5000; at += 16) clock.tick(at);
            seen.push(clock.time, clock.playing, clock.done);
            clock.within({ from: 1000, to: 200_000 });
            return [...seen, clock.done];
        })()""",
    )
    assert told == [1000, 1000, 7600, 37_600, True, 37_600, 40_000, 100_000, False, True, False]


def test_a_replay_shows_nothing_later_than_its_moment(server: ServerProcess, candles: Market, open_page: OpenPage, tmp_path: Path) -> None:
    """Neither drawn nor exported; it plays, steps and scrubs; Escape ends it and all is there again."""
    page = choose_candles(server, open_page)
    whole, newest = table(exported(page, "csv", tmp_path)), latest_drawn(page)
    page.keyboard.press("r")
    expect(page.locator("#replay")).to_be_visible()
    expect(page.locator("#replay-open")).to_have_attribute("aria-pressed", "true")
    moment = candles.start_ms + 30 * MINUTE_MS
    set_place = "(element, time) => { element.value = time; element.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.locator("#replay-place").evaluate(set_place, moment)
    told = page.evaluate("time => new Date(time).toISOString().slice(0, 19).replace('T', ' ')", moment)
    expect(page.locator("#replay-time")).to_have_text(told)
    eventually(lambda: moment - MINUTE_MS < latest_drawn(page) <= moment, WAIT_S, "the chart ends at the moment")
    shown = table(exported(page, "csv", tmp_path))
    assert len(shown) == 30
    assert shown == [row for row in whole if int(row["T"]) < moment]
    page.locator("#replay-step").click()
    eventually(lambda: moment < latest_drawn(page) <= moment + MINUTE_MS, WAIT_S, "a step shows one candle more")
    page.get_by_role("button", name="600×").click()
    page.locator("#replay-play").click()
    expect(page.locator("#replay-play")).to_have_attribute("data-state", "playing")
    eventually(lambda: latest_drawn(page) > moment + 2 * MINUTE_MS, WAIT_S, "it plays")
    page.keyboard.press("Escape")
    expect(page.locator("#replay")).to_be_hidden()
    eventually(lambda: latest_drawn(page) >= newest, WAIT_S, "all is there again")


def latest_drawn(page: Page) -> int:
    """The latest time of anything drawn with a value."""
    latest: int = page.evaluate(
        """Math.max(...document.getElementById("plot").data.flatMap(({ x, y }) => [...x].filter((_, i) => y[i] !== null && x[i] !== null)
               .map((time) => (typeof time === "number" ? time : Date.parse(time)))))"""
    )
    return latest


@pytest.mark.usefixtures("candles")
def test_the_table_is_what_rest_gives(server: ServerProcess, open_page: OpenPage, tmp_path: Path) -> None:
    """Each candle that is shown, with the very digits of the topic, and each value of its indicators."""
    page = choose_candles(server, open_page, "&show=sma,bollinger&panes=rsi")
    path = exported(page, "csv", tmp_path)
    assert path.name.startswith(f"{SYMBOL}-1m-")
    shown = table(path)
    asked = {"symbol": SYMBOL, "interval": "1m", "format": "csv", "limit": 1000}
    candles, indicators = (
        {row["t"]: row for row in csv.DictReader(io.StringIO(server.http.get(f"/api/v1/{kind}", params=asked).text))}
        for kind in ("candles", "indicators")
    )
    assert len(shown) >= 60
    assert {"sma_20", "bollinger_upper_20_2", "rsi_14"} <= shown[0].keys()
    for row in shown:
        candle, values = candles[row["t"]], indicators.get(row["t"], {})
        assert {name: row[name] for name in candle} == candle
        for name in row.keys() & values.keys() - candle.keys() - {"unready"}:
            assert (float(row[name]) if row[name] else None) == (float(values[name]) if values[name] else None), name


def test_fields_of_a_table_are_quoted_where_they_must_be(bare: Page) -> None:
    """Nulls are empty, commas and quotes survive."""
    rows = [[None, 'say "a, b"', 1.5, True, "two\nlines"]]
    text = module(bare, "csv", f"m.csvOf({{ columns: ['a', 'b', 'c', 'd', 'e'], rows: {json.dumps(rows)} }})")
    assert list(csv.reader(io.StringIO(text))) == [["a", "b", "c", "d", "e"], ["", 'say "a, b"', "1.5", "true", "two\nlines"]]


@pytest.mark.usefixtures("candles")
def test_the_image_has_the_chart_twice_as_large(server: ServerProcess, open_page: OpenPage, tmp_path: Path) -> None:
    """A PNG of the drawing and its head, in the colours of the page, and not an empty one."""
    page = choose_candles(server, open_page, color_scheme="dark")
    drawn = page.locator("#plot").bounding_box()
    assert drawn is not None
    path = exported(page, "png", tmp_path)
    image = decoded(page, path.read_bytes())
    assert image["size"] == [round(drawn["width"] * 2), round((drawn["height"] + 46) * 2)]
    ground = page.evaluate("getComputedStyle(document.getElementById('chart')).backgroundColor.match(/\\d+/g).map(Number)")
    assert image["corner"] == [*ground, 255]
    assert image["head"] > 10, "the head has no text"
    assert image["middle"] > 50, "nothing is drawn"


def decoded(page: Page, png: bytes) -> Any:
    """Width and height of an image, the colour of its corner, and how many colours are in its head and in its middle."""
    return page.evaluate(
        """async (source) => {
            const image = new Image();
            image.src = source;
            await image.decode();
            const { width, height } = image;
            const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
            context.drawImage(image, 0, 0);
            const colours = (top, lines) => new Set(new Uint32Array(context.getImageData(0, top, width, lines).data.buffer)).size;
            return {
                size: [width, height],
                corner: [...context.getImageData(2, 2, 1, 1).data],
                head: colours(20, 60),
                middle: colours(200, height - 400),
            };
        }""",
        f"data:image/png;base64,{base64.b64encode(png).decode()}",
    )


@pytest.mark.usefixtures("candles", "live_windows")
def test_the_search_shows_what_each_symbol_costs(server: ServerProcess, open_page: OpenPage) -> None:
    """Prices stand beside the symbols; a letter begins the search, Enter takes the first match; the interval stays."""
    page = choose_candles(server, open_page)
    page.keyboard.press("d")
    page.keyboard.type("awn")
    options = page.get_by_role("option")
    expect(options).to_have_count(1)
    expect(options.locator(".listed-price")).to_have_text(re.compile(r"^5\d\d\.\d\d$"))
    page.locator("#chooser-input").fill("s")
    expect(options.first).to_contain_text("SUN / USDT")
    page.locator("#chooser-input").fill("dawnusdt")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/chart?symbol=DAWNUSDT&interval=1m")
    expect(page.locator("#chooser-label")).to_have_text("DAWNUSDT")


@pytest.mark.usefixtures("candles")
def test_a_thumb_reaches_everything(server: ServerProcess, open_page: OpenPage) -> None:
    """On a phone each target is 40 px at least, nothing lies outside the screen, and what has no room is behind More."""
    page = choose_candles(server, open_page, **PHONE)
    small = """[...document.querySelectorAll("button:not(#chart *), a, label, input:not(#indicators *)")]
        .filter((element) => element.checkVisibility())
        .map((element) => [element.id || element.textContent.trim(), element.getBoundingClientRect()])
        .filter(([_, box]) => box.width < 40 || box.height < 40).map(([name]) => name)"""
    assert page.evaluate(small) == []
    page.locator("#more-open").tap()
    expect(page.locator("#more")).to_be_visible()
    assert page.evaluate(small) == []
    page.locator("#replay-open").tap()
    expect(page.locator("#more")).to_be_hidden()
    expect(page.locator("#replay-play")).to_be_visible()
    assert page.evaluate(small) == []
    page.locator("#indicators-open").tap()
    assert page.evaluate(small) == []
    page.locator("#indicators").get_by_text("MACD").tap()
    expect(page).to_have_url(re.compile("panes=volume,rsi,macd"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.documentElement.scrollHeight") <= 780

"""The chart of candles in a real browser: each number as in the topic, each doubt named, and the way back into history."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page, expect

from klinestream.market.codec import encode_event
from klinestream.market.events import Candle, CandleOrigin, FeedGap, GapState, gap_id
from klinestream.market.topics import CANDLES, FEED_GAPS, INDICATORS, SIGNALS
from klinestream.runtime.kafka import Record
from tests.browser.conftest import CANDLE_SYMBOLS, Watched
from tests.candles import best
from tests.eventually import eventually
from tests.integration.rest_server import Market
from tests.serving import ServerProcess, now_ms
from tests.stack import TestBroker
from tests.topics import publish

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
MINUTE_MS = 60_000
STILL_MS = 100  # a hundredth of a pixel
SYMBOL = CANDLE_SYMBOLS[0]
POINTS = 15  # of a candle in its outline: the third is the body's lower end, the fifth its upper one, the seventh the high
UNIT = 10**8


def opened(server: ServerProcess, open_page: OpenPage, query: str, **context: Any) -> Page:
    """The page, when it has drawn candles."""
    page = open_page(f"{server.url}/chart?{query}", **context).page
    expect(page.locator("#notice")).to_be_hidden()
    eventually(lambda: traces(page, "whole"), WAIT_S, "candles are drawn")
    return page


def traces(page: Page, name: str) -> list[dict[str, Any]]:
    """What is drawn under names that begin so: x and y of each trace."""
    found: list[dict[str, Any]] = page.evaluate(
        """(name) => (document.getElementById("plot").data ?? []).filter((trace) => trace.name?.startsWith(name))
                 .map(({ name, x, y, line, marker, opacity }) => ({ name, x, y, dash: line?.dash, colour: marker?.color, opacity }))""",
        name,
    )
    return found


def shown(traces: list[dict[str, Any]]) -> dict[float, float]:
    """Time → value of what traces draw."""
    return {x: y for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True) if y is not None}


def candles_drawn(page: Page, name: str = "whole") -> dict[int, tuple[float, float, float, float, bool]]:
    """Open time → low, lower and upper end of the body, high, and whether it is drawn as up."""
    found = {}
    for trace in traces(page, name):
        for begin in range(0, len(trace["x"]), POINTS):
            x, y = trace["x"][begin : begin + POINTS], trace["y"][begin : begin + POINTS]
            found[round((x[3] + x[9]) / 2) - MINUTE_MS // 2] = (y[1], y[2], y[4], y[6], trace["name"].endswith("up"))
    return found


def records(market: Market, topic: str, interval: str = "1m") -> list[dict[str, Any]]:
    """The records of SYMBOL that count, in order of time."""
    values = [orjson.loads(value) for value in best(market.records, topic).values()]
    return sorted((value for value in values if value["s"] == SYMBOL and value["i"] == interval), key=lambda value: value["t"])


def flat(symbol: str, opened_ms: int, **fields: Any) -> Candle:
    """A candle of one minute, up by a little."""
    values: dict[str, Any] = {
        "symbol": symbol,
        "interval": "1m",
        "open_time_ms": opened_ms,
        "close_time_ms": opened_ms + MINUTE_MS - 1,
        "open": 100 * UNIT,
        "high": 103 * UNIT,
        "low": 99 * UNIT,
        "close": 102 * UNIT,
        "base_volume": UNIT,
        "quote_volume": 100 * UNIT,
        "taker_base_volume": 0,
        "taker_quote_volume": 0,
        "trades": 1,
        "first_trade_id": 1,
        "last_trade_id": 1,
        "klines": 60,
        "complete": True,
        "origin": CandleOrigin.BUILT,
    }
    return Candle(**(values | fields))


def send(broker: TestBroker, candles: list[Candle]) -> None:
    """Publish candles as their job does."""
    lines = [Record(CANDLES.name, each.symbol.encode(), encode_event(each), each.close_time_ms) for each in candles]
    publish(broker.bootstrap_servers, lines)


def minute_ms() -> int:
    """The beginning of this minute."""
    return now_ms() // MINUTE_MS * MINUTE_MS


def axis(page: Page) -> tuple[float, float]:
    """The time that the chart shows, with all shifts since it was drawn."""
    left, right = page.evaluate(
        """() => {
            const { range, _length } = document.getElementById("plot")._fullLayout.xaxis;
            const ends = range.map((end) => (typeof end === "number" ? end : Date.parse(end.replace(" ", "T") + "Z")));
            const shift = new DOMMatrix(getComputedStyle(document.querySelector("#plot .overplot > g > g")).transform).m41;
            return ends.map((end) => end - (shift / _length) * (ends[1] - ends[0]));
        }"""
    )
    return left, right


def module(page: Page, name: str, expression: str) -> Any:
    """Evaluate an expression with a module of the page in scope as `m`."""
    return page.evaluate(f"async () => {{ const m = await import('/static/js/{name}.js'); return {expression}; }}")


def test_each_candle_is_drawn_as_it_stands_in_the_topic(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """Open, high, low, close and direction of every closed candle in view; the one in progress is hollow, and said to be."""
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m&panes=volume,rsi,macd")
    closed = records(candles, CANDLES.name)
    times = [record["t"] for record in closed]
    eventually(lambda: sorted(candles_drawn(page)) == times, WAIT_S, "every candle of the topic is drawn")
    drawn = candles_drawn(page)
    for record in closed:
        first, high, low, last = (float(record[name]) for name in "ohlc")
        *ends, up = drawn[record["t"]]
        assert ends == pytest.approx([low, min(first, last), max(first, last), high], abs=0.2)
        assert up == (last >= first)
    wicks, body = traces(page, "in progress")
    last_kline = candles.klines[SYMBOL][-1]
    assert last_kline.close / UNIT in [pytest.approx(y, abs=0.2) for y in body["y"]]
    assert min(wicks["x"][:2]) > max(drawn)
    expect(page.locator("#legend-price")).to_contain_text("in progress")
    expect(page.locator("#price")).to_have_text(f"{last_kline.close / UNIT:,.2f}")


def test_values_that_have_not_converged_are_dashed_and_named(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """EMA 26 needs 157 candles: its line is dashed and paler; RSI 3 has converged. Every value is that of the topic."""
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m&show=ema,sma,bollinger,vwap&panes=rsi,macd")
    told = {record["t"] + MINUTE_MS // 2: record["values"]["ema_26"] for record in records(candles, INDICATORS.name)}
    eventually(
        lambda: shown(traces(page, "ema_26 warming up")) == {time: value for time, value in told.items() if value is not None},
        WAIT_S,
        "every value of the topic is drawn",
    )
    [dashed] = traces(page, "ema_26 warming up")
    assert dashed["dash"]
    assert dashed["opacity"] < 1
    [_, ready] = traces(page, "rsi_3")
    assert ready["dash"] is None
    assert len(shown([ready])) > 20
    expect(page.locator("#legend-price")).to_contain_text(re.compile(r"EMA 26 [\d,.]+ warming up"))
    expect(page.locator("#legend-rsi")).to_contain_text("RSI 14")
    expect(page.locator("#legend-macd")).to_contain_text("MACD 12 26 9")


def test_a_signal_tells_its_reason(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """Each signal in view is a mark below or above its candle; pointer and keyboard reach its reason."""
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m")
    told = records(candles, SIGNALS.name)
    times = [record["t"] + MINUTE_MS // 2 for record in told]
    eventually(lambda: sorted(shown(traces(page, "signals"))) == times, WAIT_S, "every signal is marked")
    buttons = page.locator(".signal")
    expect(buttons).to_have_count(min(60, len(told)))
    note = page.locator("#signal-note")
    buttons.last.hover()
    expect(note).to_contain_text(told[-1]["reason"])
    page.mouse.move(5, 5)
    expect(note).to_be_hidden()
    buttons.last.focus()
    expect(note).to_contain_text("Buy" if told[-1]["side"] == "buy" else "Sell")
    page.goto(f"{server.url}/chart?symbol={SYMBOL}&interval=1m&signals=0")
    eventually(lambda: traces(page, "whole"), WAIT_S, "candles are drawn")
    expect(buttons).to_have_count(0)


def test_gaps_are_shaded_and_named(server: ServerProcess, broker: TestBroker, open_page: OpenPage) -> None:
    """A gap still open, one that nobody has, and a repaired one: each a band of its own colour, and in words."""
    states = {
        GapState.DEFERRED: "1 gap still open, 4 min",
        GapState.UNFILLABLE: "1 gap that nobody has, 4 min",
        GapState.REPAIRED: "1 gap repaired later, 4 min",
    }
    symbol, now = "GAPPYUSDT", minute_ms()
    send(broker, [flat(symbol, now - back * MINUTE_MS) for back in range(60, 0, -1)])
    gaps = []
    for number, state in enumerate(states):
        begin = now - (15 + 12 * number) * MINUTE_MS
        end = begin + 4 * MINUTE_MS
        gap = FeedGap(gap_id(symbol, begin, end), symbol, state, "producer-1", begin, end, 0, "none", False, None, "", end)
        gaps.append(Record(FEED_GAPS.name, symbol.encode(), encode_event(gap), gap.time_ms))
    publish(broker.bootstrap_servers, gaps)
    # The server's reading of the gaps is some seconds old.
    eventually(
        lambda: len(server.http.get("/api/v1/gaps", params={"symbol": symbol}).json().get("gaps", [])) == len(gaps), WAIT_S, "gaps are read"
    )
    page = opened(server, open_page, f"symbol={symbol}&interval=1m&panes=none")
    for text in states.values():
        expect(page.locator("#bands")).to_contain_text(text)
    filled = page.evaluate(
        """document.getElementById("plot").layout.shapes.filter(({ xref, x1 }) => xref === "x" && x1 < Date.now())
                   .map((shape) => shape.fillcolor)"""
    )
    assert len(set(filled)) == len(states)
    expect(page.locator("#plot").get_by_text("gap, still open")).to_have_count(1)


def test_holes_and_incomplete_candles_are_marked(server: ServerProcess, broker: TestBroker, open_page: OpenPage) -> None:
    """A candle with missing seconds is paler and marked, until the exchange's own replaces it; missing candles are a named band."""
    symbol, now = "HOLEUSDT", minute_ms()
    held = [flat(symbol, now - back * MINUTE_MS) for back in range(40, 0, -1) if not 14 <= back <= 20]
    broken = replace(flat(symbol, now - 5 * MINUTE_MS), complete=False, klines=44, close=101 * UNIT)
    send(broker, [broken if each.open_time_ms == broken.open_time_ms else each for each in held])
    page = opened(server, open_page, f"symbol={symbol}&interval=1m&span={60 * MINUTE_MS}")
    eventually(lambda: list(candles_drawn(page, "incomplete up")) == [broken.open_time_ms], WAIT_S, "the incomplete one is drawn as such")
    expect(page.locator("#plot").get_by_text("no data for 7 min")).to_have_count(1)
    expect(page.locator("#connection")).to_have_attribute("data-state", "stale")
    expect(page.locator("#bands")).to_contain_text("stale")
    whole = replace(broken, complete=True, close=102 * UNIT, klines=0, origin=CandleOrigin.HISTORY, revision=7)
    send(broker, [whole, broken])
    eventually(lambda: traces(page, "incomplete") == [], WAIT_S, "the exchange's own candle is drawn")
    eventually(lambda: broken.open_time_ms in candles_drawn(page), WAIT_S, "it is a whole one")
    assert candles_drawn(page)[broken.open_time_ms][2] == pytest.approx(102)


def test_the_way_back_is_fetched_page_by_page(server: ServerProcess, broker: TestBroker, open_page: OpenPage) -> None:
    """Going back shows candles that the websocket didn't give, to the oldest that the server holds; End is live again."""
    symbol, now, count = "LONGUSDT", minute_ms(), 480
    send(broker, [flat(symbol, now - back * MINUTE_MS) for back in range(count, 0, -1)])
    eventually(lambda: len(rest_candles(server, symbol)) == count, WAIT_S, "the server holds them")
    page = opened(server, open_page, f"symbol={symbol}&interval=1m")
    oldest = now - count * MINUTE_MS

    def reached() -> bool:
        page.keyboard.press("Home")
        return min(candles_drawn(page)) == oldest

    eventually(reached, WAIT_S, "the oldest candle is drawn")
    expect(page).to_have_url(re.compile(r"at=\d+"))
    assert len(candles_drawn(page)) < count  # only what is near the view is drawn
    page.keyboard.press("End")
    eventually(lambda: max(candles_drawn(page)) == now - MINUTE_MS, WAIT_S, "the newest candle is drawn")
    expect(page).not_to_have_url(re.compile("at="))


def rest_candles(server: ServerProcess, symbol: str) -> list[Any]:
    answer = server.http.get("/api/v1/candles", params={"symbol": symbol, "interval": "1m"})
    return answer.json()["candles"] if answer.status_code == 200 else []


def test_a_link_leads_to_its_moment(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """`at` is the right edge, `span` the time shown, and the chart stays there."""
    at, span = records(candles, CANDLES.name)[40]["t"], 20 * MINUTE_MS
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m&at={at}&span={span}")
    assert list(axis(page)) == pytest.approx([at - span, at], abs=50)
    time = page.locator("#legend-price time")
    page.mouse.move(600, 400)
    expect(time).to_have_text(re.compile(r"\d+ \w{3} \d\d:\d\d"))
    page.locator("#live").click()
    eventually(lambda: axis(page)[1] > now_ms(), WAIT_S, "the chart is live")
    left, right = axis(page)
    assert right - left == pytest.approx(span, abs=50)


@pytest.mark.usefixtures("candles")
def test_dragging_and_the_wheel_move_the_view(server: ServerProcess, open_page: OpenPage) -> None:
    """A drag takes the time under the pointer along; the wheel keeps it where it is, and shows more or less around it."""
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m&at={minute_ms()}")
    left, right = axis(page)
    width = page.evaluate("document.getElementById('plot')._fullLayout.xaxis._length")
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(500, 420, steps=4)
    page.mouse.up()
    moved = 100 * (right - left) / width
    eventually(lambda: axis(page)[1] == pytest.approx(right - moved, abs=moved / 50), WAIT_S, "the view has followed the drag")
    before = axis(page)
    share = (page.evaluate("500 - document.getElementById('chart').getBoundingClientRect().left") - 1) / width
    pointed = before[0] + share * (before[1] - before[0])
    page.mouse.wheel(0, -240)
    eventually(lambda: axis(page)[1] - axis(page)[0] < 0.8 * (before[1] - before[0]), WAIT_S, "the view is nearer")
    after = axis(page)
    assert after[0] + share * (after[1] - after[0]) == pytest.approx(pointed, abs=(after[1] - after[0]) / 100)


@pytest.mark.usefixtures("candles")
def test_fingers_move_the_view(server: ServerProcess, open_page: OpenPage) -> None:
    """One finger takes the time along, two show less or more of it, and a tap shows the values there."""
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m&at={minute_ms()}", **phone)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": x, "y": 500, "id": number} for number, x in enumerate(xs)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def swipe(*places: tuple[float, ...]) -> None:
        touch("touchStart", *places[0])
        for place in places[1:]:
            touch("touchMove", *place)
        touch("touchEnd")

    left, right = axis(page)
    swipe((100,), (140,), (180,), (220,))
    eventually(lambda: axis(page)[1] < right - (right - left) / 5, WAIT_S, "the view has followed the finger")
    left, right = axis(page)
    swipe((150, 200), (130, 220), (100, 250), (70, 280))
    eventually(lambda: axis(page)[1] - axis(page)[0] < 0.6 * (right - left), WAIT_S, "the view is nearer")
    page.touchscreen.tap(180, 500)
    expect(page.locator("#crosshair")).to_be_visible()
    expect(page.locator("#legend-price time")).to_have_text(re.compile(r"\d+ \w{3} \d\d:\d\d"))


def test_pause_holds_what_is_shown(server: ServerProcess, broker: TestBroker, open_page: OpenPage) -> None:
    """While paused the edge stands still and later candles are not drawn; then all of them are."""
    symbol, now = "PAUSEUSDT", minute_ms()
    send(broker, [flat(symbol, now - back * MINUTE_MS) for back in range(40, 1, -1)])
    page = opened(server, open_page, f"symbol={symbol}&interval=1m")
    page.keyboard.press("Space")
    expect(page.locator("#live")).to_have_attribute("data-state", "away")
    expect(page).to_have_url(re.compile(r"at=\d+"))
    edge = int(re.findall(r"at=(\d+)", page.url)[0])
    # The link is told at once, the picture follows with the next frame, and by parts of a pixel.
    eventually(lambda: axis(page)[1] == pytest.approx(edge, abs=STILL_MS), WAIT_S, "the edge stands where the pause began")
    paused = now_ms()
    later = flat(symbol, minute_ms())  # closes after the pause
    send(broker, [flat(symbol, now - MINUTE_MS), later])
    eventually(
        lambda: now - MINUTE_MS in candles_drawn(page) and now_ms() > paused + 10 * STILL_MS,
        WAIT_S,
        "a candle from before is drawn",
    )
    assert axis(page)[1] == pytest.approx(edge, abs=STILL_MS)
    assert later.open_time_ms not in candles_drawn(page)
    page.keyboard.press("Space")
    eventually(lambda: later.open_time_ms in candles_drawn(page), WAIT_S, "the later candle is drawn")


def test_an_interval_is_a_series_of_its_own(server: ServerProcess, candles: Market, open_page: OpenPage) -> None:
    """Another interval shows its own candles, and the windows come back."""
    page = opened(server, open_page, f"symbol={SYMBOL}&interval=1m")
    page.get_by_role("button", name="15m", exact=True).click()
    quarters = [record["t"] for record in records(candles, CANDLES.name, "15m")]
    shift = 15 * MINUTE_MS // 2 - MINUTE_MS // 2
    eventually(lambda: sorted(time - shift for time in candles_drawn(page)) == quarters, WAIT_S, "candles of 15m are drawn")
    expect(page.locator("#stat-volume-name")).to_have_text("Volume, 15m")


def test_candles_are_held_as_the_server_holds_them(server: ServerProcess, open_page: OpenPage) -> None:
    """The highest revision counts, then the earliest since or the most klines, in whatever order; of many the newest 5,000 stay."""
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}").page
    claims = [
        {"t": 60_000, "values": {}, "unready": [], "since": since, "revision": revision}
        for since, revision in ((2, 0), (1, 0), (3, 1), (2, 1))
    ]
    for order in (claims, claims[::-1], claims[2:] + claims[:2]):
        text = orjson.dumps(order).decode()
        held = module(
            page, "candles", f"(() => {{ const c = new m.Candles('1m'); c.add('indicators', {text}); return c.studies.records; }})()"
        )
        assert [(study["since"], study["revision"]) for study in held] == [(2, 1)]
    whole = {"t": 0, "T": 59_999, **dict.fromkeys("ohlcv", "1"), "complete": True, "revision": 0, "klines": 60}
    for told in ([whole, whole | {"klines": 7}], [whole | {"klines": 7}, whole]):
        text = orjson.dumps(told).decode()
        held = module(
            page, "candles", f"(() => {{ const c = new m.Candles('1m'); c.add('candles', {text}); return c.candles.records; }})()"
        )
        assert [candle["record"]["klines"] for candle in held] == [60]
    ends = module(
        page,
        "book",
        """(() => { const b = new m.Book((r) => r.t, 5000); b.add(Array.from({ length: 4000 }, (_, i) => ({ t: i + 4000 })));
            b.add(Array.from({ length: 4000 }, (_, i) => ({ t: i }))); return [b.records.length, b.first.t, b.last.t]; })()""",
    )
    assert ends == [5000, 3000, 7999]


def test_the_view_keeps_to_its_limits(server: ServerProcess, open_page: OpenPage) -> None:
    """Past the live edge it is live again; back it stops where the data begins; zooming stops at the limits."""
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}").page
    limits = "{ spanMs: 100, leastMs: 10, mostMs: 1000, aheadMs: 0 }"

    def after(steps: str) -> list[Any]:
        shown = "[v.live, v.paused, Math.round(v.right()), v.spanMs]"
        body = f"(() => {{ const v = new m.View(() => 10000, {limits}); v.oldest = 5000; {steps}; return {shown}; }})()"
        found: list[Any] = module(page, "view", body)
        return found

    assert after("") == [True, False, 10004, 100]
    assert after("v.pan(-1000)") == [False, False, 9004, 100]
    assert after("v.pan(-1000); v.pan(2000)") == [True, False, 10004, 100]
    assert after("v.pan(-1e9)") == [False, False, 5025, 100]
    assert after("v.zoom(0.01)") == [True, False, 10000, 10]
    assert after("v.pan(-1000); v.zoom(2, 8954)") == [False, False, 9053, 200]
    assert after("v.pause(); v.pan(500)") == [False, True, 10004, 100]
    assert after("v.replayTo(7000); v.pan(500)") == [False, False, 7004, 100]
    assert after("v.replayTo(7000); v.replayTo(null)") == [True, False, 10004, 100]

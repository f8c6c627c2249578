"""Order books and windows over trades in a real browser: what stands on the page is what the records say."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page, expect

from klinestream.market.codec import encode_event
from klinestream.market.events import OrderBook
from tests.books import QUIET_EVERY, book_at, book_record, trade_window_at, trade_window_record
from tests.browser.axe import assert_accessible
from tests.browser.conftest import Watched
from tests.eventually import eventually
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at
from tests.stack import TestBroker
from tests.topics import publish

OpenPage = Callable[..., Watched]
WAIT_S = 20.0
SYMBOL, OF_TRADES = "BOOKUSDT", "TRADEUSDT"
TRACES = "document.getElementById('plot').data.map(({x, y, yaxis, line}) => ({x, y, yaxis, width: line?.width ?? 0}))"


@pytest.fixture(scope="module")
def over_trades(broker: TestBroker, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose windows are those over trades."""
    assert windows is not None  # the topics are there
    log = tmp_path_factory.mktemp("trades") / "server.log"
    started = ServerProcess(broker.bootstrap_servers, log, windows__source="trades")
    started.start()
    yield started
    started.close()


def of_axis(traces: list[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    return [trace for trace in traces if trace["yaxis"] == axis]


def depth_drawn(page: Page, book: OrderBook) -> bool:
    """Whether the depth is that of the book: an assertion says what isn't."""
    # A few independent lines: the sum of the quantities up to each level, as JavaScript adds them.
    mid = book.mid
    assert mid is not None
    far = max(abs(float(price) - mid) for side in (book.bids, book.asks) for price, _ in side)
    most = max(sum(float(quantity) for _, quantity in side) for side in (book.bids, book.asks))
    for side, name in ((book.bids, "bids"), (book.asks, "asks")):
        totals = list(itertools.accumulate(float(quantity) for _, quantity in side))
        drawn = page.locator(f"#depth .depth-{name}").get_attribute("d") or ""
        assert drawn
        # M, where it begins; then sideways to each price, and up to what stands up to it; then down to the axis.
        begin, *steps = re.findall(r"[HM]([-\d.e]+)", drawn)
        assert float(begin) == pytest.approx((float(side[0][0]) - mid) / far)
        assert [float(step) for step in steps] == pytest.approx([(float(price) - mid) / far for price, _ in side])
        heights = [float(height) for height in re.findall(r"V([-\d.e]+)", drawn)]
        assert heights == pytest.approx([*(-total / most for total in totals), 0])
    return True


def test_a_book_is_shown_as_its_record_says(server: ServerProcess, windows: Windows, broker: TestBroker, open_page: OpenPage) -> None:
    """Ladder, depth, figures and both panes; each further record joins, and one that grows old is marked."""
    began = now_ms() // 1000 * 1000
    windows.publish([window_at(SYMBOL, end, began - 60_000) for end in ends_between(began - 30_000, began)])
    books = [book_at(SYMBOL, began - 1000 * age) for age in range(20, -1, -1)]
    publish(broker.bootstrap_servers, map(book_record, books))
    eventually(lambda: server.http.get(f"/api/v1/books/{SYMBOL}").status_code == 200, WAIT_S, "the server has the book")
    page = open_page(f"{server.url}/chart?symbol={SYMBOL}&panes=volume,book&depth=1").page
    rows = page.locator("#ladder tr")
    expect(rows).to_have_count(20)
    newest = books[-1]
    eventually(lambda: depth_drawn(page, newest), WAIT_S, "the depth is drawn")
    best = [f"{float(side[0][0]):.2f}" for side in (newest.bids, newest.asks)]
    cells = rows.first.locator("td")
    eventually(lambda: [cell.replace(",", "") for cell in cells.all_text_contents()[1:3]] == best, WAIT_S, "the best prices are on top")
    assert newest.imbalance_20 is not None
    expect(page.locator("#book-imbalance")).to_have_text(f"{newest.imbalance_20:+.2f}".replace("-", "−"))
    told = [orjson.loads(encode_event(book)) for book in books]

    def all_drawn() -> bool:
        traces = page.evaluate(TRACES)
        [spread] = of_axis(traces, "y5")
        best = of_axis(traces, "y6")[-1]
        times = [record["E"] for record in told]
        return (
            [spread["x"], best["x"]] == [times, times]
            and spread["y"] == [record["spread"] for record in told]
            and best["y"] == [record["imbalance"] for record in told]
        )

    eventually(all_drawn, WAIT_S, "spread and imbalance of all records are drawn")
    told.append(orjson.loads(encode_event(book_at(SYMBOL, began + 1000))))
    publish(broker.bootstrap_servers, [book_record(book_at(SYMBOL, told[-1]["E"]))])
    expect(rows.first.locator("td").nth(1)).to_have_text(f"{float(told[-1]['bids'][0][0]):,.2f}")
    eventually(all_drawn, WAIT_S, "the new record is drawn too")
    assert_accessible(page)
    expect(page.locator("#book")).to_have_attribute("data-state", "stale")
    expect(page.locator("#book-age")).to_contain_text("stale")


def test_a_symbol_without_a_book_says_how_to_get_one(server: ServerProcess, windows: Windows, open_page: OpenPage) -> None:
    """No pane and no depth, but a word; ticked in the panel, and as a choice in the link."""
    windows.publish([window_at("NOBOOKUSDT", end, 0) for end in ends_between(now_ms() - 5000, now_ms())])
    page = open_page(f"{server.url}/chart?symbol=NOBOOKUSDT").page
    expect(page.locator("#book")).to_be_hidden()
    page.locator("#indicators-open").click()
    page.get_by_label("Spread and imbalance").check()
    page.get_by_label("Depth and ladder").check()
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{server.url}/chart?symbol=NOBOOKUSDT&panes=volume,rsi,book&depth=1")
    expect(page.locator("#book-note")).to_contain_text("--with books")
    expect(page.locator("#bands")).to_contain_text("--with books")
    assert page.evaluate("document.getElementById('plot')._fullLayout.yaxis5 === undefined")


def test_windows_over_trades_are_drawn_as_what_they_are(over_trades: ServerProcess, broker: TestBroker, open_page: OpenPage) -> None:
    """Each half second; where no trade was, average, VWAP and range break off and the price goes on; volume is bought and sold."""
    end_ms = now_ms() // 500 * 500
    made = [trade_window_at(OF_TRADES, end, end_ms - 90_000) for end in ends_between(end_ms - 40_000, end_ms)]
    publish(broker.bootstrap_servers, map(trade_window_record, made))
    page = open_page(f"{over_trades.url}/chart?symbol={OF_TRADES}&panes=volume").page
    expect(page.locator("#windows-of")).to_have_text("3 s windows over trades")
    times = [window.end_ms for window in made]
    eventually(lambda: any(trace["x"] == times for trace in of_axis(page.evaluate(TRACES), "y")), WAIT_S, "all windows are drawn")
    traces = page.evaluate(TRACES)
    band, average, vwap, close = of_axis(traces, "y")[:4]
    assert close["x"] == times
    assert close["y"] == [window.close for window in made]
    assert average["y"] == [window.average_price for window in made]
    assert vwap["y"] == [window.average_by_volume for window in made]
    quiet = [window for window in made if window.points == 0]
    assert len(quiet) == sum(window.end_ms // 500 % QUIET_EVERY == 0 for window in made) > 0
    assert not {window.end_ms for window in quiet} & set(band["x"])
    bought, sold = of_axis(traces, "y2")[:2]
    assert bought["y"][1::4] == [window.buy_volume for window in made]
    assert sold["y"][1::6] == [window.volume for window in made]
    assert sold["y"][0::6] == [window.buy_volume for window in made]
    answer = over_trades.http.get("/api/v1/windows", params={"symbol": OF_TRADES, "limit": 1000}).json()
    assert answer["windows"] == [orjson.loads(encode_event(window)) for window in made]
    text = over_trades.http.get("/api/v1/windows", params={"symbol": OF_TRADES, "format": "csv"}).text
    assert "buy_volume,sell_volume" in text.splitlines()[0]

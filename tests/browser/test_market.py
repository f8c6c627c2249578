"""The market page in a real browser: 1,400 symbols on a real broker, sorted, searched, kept still under the pointer."""

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from klinestream.market.intervals import DAY_MS, INTERVALS, MINUTE_MS
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from tests.browser.axe import assert_accessible
from tests.browser.conftest import Watched
from tests.browser.wide_market import Coin, WideMarket
from tests.eventually import eventually
from tests.serving import ServerProcess, now_ms
from tests.stack import TestBroker
from tests.topics import kafka

OpenPage = Callable[..., Watched]
SYMBOLS = 1400
LIVE = 40
WAIT_S = 20.0
READ_S = 60.0
"""For the tens of thousands of records that the server reads first."""
STALE_AFTER_S = 300
PHONE = {"viewport": {"width": 390, "height": 800}}


class Live:
    """A market on a broker, whose first symbols go on."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.market = WideMarket(SYMBOLS, now_ms())
        self.lost = self.market.coins[-1]
        """It has candles only, and those of some minutes ago."""
        self._publisher: Publisher = open_publisher(kafka(bootstrap_servers), "test-market")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="market")
        self._jumps: dict[str, float] = {}

    def start(self) -> None:
        coins = self.market.coins
        early = WideMarket(SYMBOLS, self.market.now_ms - 10 * MINUTE_MS).coins[-1:]
        self._put(*self.market.candles(coins[:-1], lines=LIVE))
        self._put(*WideMarket(SYMBOLS, self.market.now_ms - 10 * MINUTE_MS).candles(early, lines=0))
        for interval, shift in (("1h", 0.0), ("15m", 20.0)):
            self._put(*self.market.indicators(coins, interval, shift))
        self._put(*self.market.windows(now_ms() // 1000 * 1000, coins[:-1], {}))
        self._thread.start()

    def jump(self, symbol: str, price: float) -> None:
        """From now on a live symbol has this price."""
        self._jumps[symbol] = price

    def settle(self) -> None:
        """All prices are as they were."""
        self._jumps = {}

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._publisher.close(5)

    def coin(self, symbol: str) -> Coin:
        return next(coin for coin in self.market.coins if coin.symbol == symbol)

    def _go_on(self) -> None:
        while not self._stopped.wait(1 - now_ms() % 1000 / 1000):
            self._put(*self.market.windows(now_ms() // 1000 * 1000, self.market.coins[:LIVE], self._jumps))

    def _put(self, *records: Record) -> None:
        for record in records:
            self._publisher.publish(record)
        self._publisher.flush(30)


@pytest.fixture(scope="module")
def market(module_broker: TestBroker) -> Iterator[Live]:
    opened = Live(module_broker.bootstrap_servers)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def wide_server(module_broker: TestBroker, market: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has read all of it."""
    started = ServerProcess(
        module_broker.bootstrap_servers,
        tmp_path_factory.mktemp("market-server") / "server.log",
        stale_after_s=STALE_AFTER_S,
        history_s=600,
        history_candles=60,
    )
    started.start()
    eventually(
        lambda: asked(started)["candles_read"] and len(asked(started)["symbol"]) == len(market.market.coins),
        READ_S,
        "the server holds the market",
    )
    yield started
    started.close()


@pytest.fixture
def page(wide_server: ServerProcess, market: Live, open_page: OpenPage) -> Page:
    market.settle()
    opened = open_page(f"{wide_server.url}/market").page
    filled(opened)
    return opened


def asked(server: ServerProcess, interval: str = "1h") -> dict[str, Any]:
    try:
        found: dict[str, Any] = server.http.get("/api/v1/market", params={"interval": interval}).json()
    except httpx.TransportError as error:
        raise AssertionError(error) from error
    return found


def filled(page: Page) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    expect(page.locator("#notice")).to_be_hidden()


def symbols(page: Page) -> list[str]:
    """Of the rows that are in the document, from the top."""
    found: list[str] = page.locator("#rows a").evaluate_all("(links) => links.map((link) => new URL(link.href).searchParams.get('symbol'))")
    return found


def row(page: Page, symbol: str) -> Locator:
    return page.locator(f'#rows .row:has(a[href$="symbol={symbol}"])')


def head(page: Page, column: str) -> Locator:
    return page.locator(f'[role=columnheader]:has([data-sort="{column}"])')


def number(page: Page, symbol: str, cell: str) -> float:
    text = row(page, symbol).locator(f".{cell}").inner_text()
    return float(re.sub(r"[^\d.\-]", "", text.replace("−", "-")))


def test_the_table_shows_each_symbol_of_the_server(page: Page, wide_server: ServerProcess, market: Live) -> None:
    """Greatest volume first; price, change, range, RSI and volume as they were published, and as the server gives them."""
    expect(page.locator("#count")).to_have_text("1,400 symbols")
    expect(page.locator("#table")).to_have_attribute("aria-rowcount", "1401")
    coin, answer = market.coin("BTCUSDT"), asked(wide_server)
    place = answer["symbol"].index("BTCUSDT")
    begin, minutes = begin_of(market.market, answer["time"][place])
    assert answer["quote_volume_24h"][place] == pytest.approx(coin.turnover * minutes, rel=1e-6)
    assert answer["rsi"][place] == pytest.approx(coin.rsi, abs=1e-4)
    first = symbols(page)[0]
    assert first == "BTCUSDT"
    assert number(page, first, "price-cell") == pytest.approx(coin.prices[-1], rel=0.001)
    assert number(page, first, "rsi-cell") == pytest.approx(coin.rsi, abs=0.051)
    assert number(page, first, "change-cell") == pytest.approx(100 * (coin.prices[-1] / coin.prices[begin] - 1), abs=0.1)
    expect(row(page, first).locator(".volume-cell")).to_have_text(re.compile(r"^(≥ )?[\d.]+[MB]$"))
    billions = row(page, first).locator(".volume-cell").inner_text().endswith("B")
    assert number(page, first, "volume-cell") * (1e9 if billions else 1e6) == pytest.approx(coin.turnover * minutes, rel=0.001)
    expect(row(page, first).locator(".line path")).to_have_attribute("d", re.compile(r"^M.*L"))


def begin_of(wide: WideMarket, newest_ms: int) -> tuple[int, int]:
    """The minute with which the first symbols' day up to then begins, that of the half hour which holds it; and of how many minutes
    it has candles.
    """
    opened_ms = (newest_ms - DAY_MS) // INTERVALS["30m"] * INTERVALS["30m"]
    return (opened_ms - wide.start_ms) // MINUTE_MS, (wide.now_ms - opened_ms) // MINUTE_MS


def test_only_the_rows_on_the_screen_are_in_the_document(page: Page) -> None:
    """A few dozen, from the first symbol to the last one, each told its place among all."""
    assert page.locator("#rows .row").count() < 40
    page.locator("#table").evaluate("(table) => { table.scrollTop = table.scrollHeight; }")
    last = page.locator('#rows .row[aria-rowindex="1401"]')
    expect(last).to_be_in_viewport()
    assert page.locator("#rows .row").count() < 40
    places = page.locator("#rows .row").evaluate_all("(rows) => rows.map((row) => Number(row.getAttribute('aria-rowindex')))")
    assert places == sorted(places)


def test_a_column_s_head_sorts_by_pointer_and_by_keyboard(page: Page, wide_server: ServerProcess) -> None:
    """Its own direction first, then the other; assistive technology is told; what is unknown or unready comes after the rest."""
    answer = asked(wide_server)
    page.locator('[data-sort="symbol"]').click()
    expect(head(page, "symbol")).to_have_attribute("aria-sort", "ascending")
    expect(head(page, "volume")).to_have_attribute("aria-sort", "none")
    assert symbols(page) == answer["symbol"][: len(symbols(page))]
    page.locator('[data-sort="rsi"]').focus()
    page.keyboard.press("Enter")
    expect(head(page, "rsi")).to_have_attribute("aria-sort", "descending")
    page.keyboard.press("Enter")
    expect(head(page, "rsi")).to_have_attribute("aria-sort", "ascending")
    table = sorted(zip(answer["rsi"], answer["rsi_ready"], answer["symbol"], strict=True), key=lambda each: (each[0] or 0, each[2]))
    ready = [symbol for _, is_ready, symbol in table if is_ready]
    unready = [symbol for rsi, is_ready, symbol in table if rsi is not None and not is_ready]
    unknown = sorted(symbol for rsi, _, symbol in table if rsi is None)
    assert symbols(page)[:10] == ready[:10]
    page.locator("#table").evaluate("(table) => { table.scrollTop = table.scrollHeight; }")
    expect(page.locator('#rows .row[aria-rowindex="1401"]')).to_be_in_viewport()
    end = [*unready, *unknown]
    assert symbols(page) == end[-len(symbols(page)) :]
    page.locator('[data-sort="rsi"]').click()
    page.locator("#find").fill(unready[0])
    expect(row(page, unready[0]).locator(".heat")).to_have_attribute("data-state", "warming")
    expect(row(page, unready[0]).locator(".rsi-cell")).to_contain_text("still converging")


def test_search_quote_interval_and_order_stand_in_the_link(page: Page, wide_server: ServerProcess, open_page: OpenPage) -> None:
    """Only what differs from the defaults; who opens the link sees the same; All and no words show all again."""
    page.keyboard.press("/")
    page.keyboard.type("sol, eth/usdt")
    expect(page.locator("#count")).to_have_text(re.compile(r"^\d+ of 1,400 symbols$"))
    page.locator('[data-quote="USDT"]').click()
    answer = asked(wide_server)
    prices = {
        symbol: price
        for symbol, quote, price in zip(answer["symbol"], answer["quote"], answer["price"], strict=True)
        if quote == "USDT" and ("SOL" in symbol or "ETHUSDT" in symbol)
    }
    expect(page.locator("#count")).to_have_text(f"{len(prices)} of 1,400 symbols")
    page.locator('[data-interval="15m"]').click()
    page.locator('[data-sort="price"]').click()
    expect(page).to_have_url(f"{wide_server.url}/market?find=sol%2C+eth%2Fusdt&quote=USDT&interval=15m&sort=price")
    assert set(symbols(page)) == set(prices)
    assert symbols(page)[0] == max(prices, key=lambda symbol: prices[symbol]) == "ETHUSDT"
    rsi = asked(wide_server, "15m")
    eventually(
        lambda: number(page, "ETHUSDT", "rsi-cell") == pytest.approx(rsi["rsi"][rsi["symbol"].index("ETHUSDT")], abs=0.051),
        WAIT_S,
        "the RSI is that of the interval",
    )
    other = open_page(page.url).page
    filled(other)
    assert symbols(other) == symbols(page)
    expect(other.locator('[data-quote="USDT"]')).to_have_attribute("aria-pressed", "true")
    expect(other.locator('[data-interval="15m"]')).to_have_attribute("aria-pressed", "true")
    other.locator("#find").fill("NOTHING")
    expect(other.locator("#notice-title")).to_have_text("No symbol matches")
    other.get_by_role("button", name="Show all symbols").click()
    expect(other.locator("#count")).to_have_text("1,400 symbols")


def test_volumes_of_all_quote_assets_are_compared_in_one(page: Page, wide_server: ServerProcess) -> None:
    """At the present prices of the quote assets; within one quote asset as they are."""
    answer = asked(wide_server)
    at = {symbol: place for place, symbol in enumerate(answer["symbol"])}
    rates = {"USDT": 1.0, "BTC": answer["price"][at["BTCUSDT"]], "TRY": 1 / answer["price"][at["USDTTRY"]]}
    page.locator("#find").fill("SOLBTC SOLTRY SOLUSDT")
    expect(page.locator("#count")).to_have_text("3 of 1,400 symbols")
    worth = {f"SOL{quote}": rate * answer["quote_volume_24h"][at[f"SOL{quote}"]] for quote, rate in rates.items()}
    assert symbols(page) == sorted(worth, key=lambda symbol: -worth[symbol])
    expect(page.locator("#volume-unit")).to_have_text("USDT")
    page.locator('[data-quote="BTC"]').click()
    expect(page.locator("#volume-unit")).to_have_text("BTC")
    shown = number(page, "SOLBTC", "volume-cell")
    assert shown == pytest.approx(answer["quote_volume_24h"][at["SOLBTC"]], rel=0.01)


def test_the_order_is_kept_under_the_pointer(page: Page, market: Live, wide_server: ServerProcess) -> None:
    """Values go on, rows stay where they are and the page says so, until the pointer has left them."""
    page.goto(f"{wide_server.url}/market?sort=price")
    filled(page)
    eventually(lambda: symbols(page), WAIT_S, "the rows are there")
    page.locator("#rows .row").nth(1).hover()
    expect(page.locator("#hold")).to_have_text("Order kept while you point at the rows")
    before = symbols(page)  # not earlier: rows change places each second until the pointer holds them
    mover = "BTCUSDT"
    assert mover in before[2:12]
    market.jump(mover, 40_000_000.0)
    expect(row(page, mover).locator(".price-cell")).to_have_text("40,000,000")
    assert symbols(page) == before
    page.mouse.move(5, 5)
    expect(page.locator("#hold")).to_be_empty()
    eventually(lambda: symbols(page)[0] == mover, WAIT_S, "the mover comes first")


def test_rows_are_reached_by_keyboard_and_open_the_chart(page: Page, wide_server: ServerProcess) -> None:
    """Down from the search, on through the rows, far beyond the screen; Enter opens, and Escape lets the order go."""
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    focused = page.locator("#rows a:focus")
    assert focused.get_attribute("href") == f"/chart?symbol={symbols(page)[0]}"
    expect(page.locator("#hold")).to_contain_text("Esc")
    for _ in range(3):
        page.keyboard.press("PageDown")
    page.keyboard.press("ArrowDown")
    expect(focused).to_be_in_viewport()
    assert int(page.locator("#rows .row:focus-within").get_attribute("aria-rowindex") or 0) > 40
    page.locator("#table").evaluate("(table) => { table.scrollTop = 0; }")
    expect(page.locator('#rows .row[aria-rowindex="2"]')).to_be_in_viewport()
    assert focused.count() == 1, "a row that has the focus stays, though it is out of sight"
    page.keyboard.press("Home")
    page.keyboard.press("Escape")
    expect(page.locator("#hold")).to_be_empty()
    page.keyboard.press("ArrowDown")
    target = focused.get_attribute("href")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{wide_server.url}{target}")


def test_stale_symbols_are_marked(page: Page, market: Live, wide_server: ServerProcess) -> None:
    """A symbol that nothing comes from any more says how old its price is; sorted by age it is the first."""
    page.goto(f"{wide_server.url}/market?sort=age")
    filled(page)
    lost = market.lost.symbol

    def oldest_first() -> bool:
        shown = symbols(page)
        answer = asked(wide_server)
        times = dict(zip(answer["symbol"], answer["time"], strict=True))
        assert shown[0] == lost, (times[lost], [(each, times.get(each)) for each in shown[:5]], page.locator("#connection").inner_text())
        return True

    eventually(oldest_first, WAIT_S, "the oldest comes first")
    expect(row(page, lost)).to_have_attribute("data-stale", "true")
    expect(row(page, lost).locator(".age-cell")).to_have_text(re.compile(r"^1\d min$"))
    expect(page.locator("#stale-count")).to_have_text(re.compile(r"^\d+ stale$"))
    page.locator("#find").fill("BTCUSDT")
    expect(row(page, "BTCUSDT")).to_have_attribute("data-stale", "false")


@pytest.mark.parametrize(("context", "theme"), [({}, "dark"), ({}, "light"), (PHONE, "dark")], ids=["dark", "light", "narrow"])
def test_the_page_is_accessible(wide_server: ServerProcess, market: Live, open_page: OpenPage, context: dict[str, Any], theme: str) -> None:
    """No serious finding, with hot, cold, unready and stale rows on the screen, and nothing wider than a phone."""
    kinds = [market.lost, *(coin for coin in market.market.coins if not coin.ready or coin.rsi is None), *market.market.coins][:20]
    names = ",".join(coin.symbol for coin in kinds)
    page = open_page(f"{wide_server.url}/market?sort=rsi&find={names}", color_scheme=theme, **context).page
    filled(page)
    expect(page.locator("#rows .row").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)


def test_the_theme_is_turned_and_remembered(page: Page) -> None:
    """By key or button; it holds for the next page too."""
    ground = "() => getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.keyboard.press("t")
    eventually(lambda: page.evaluate(ground) != before, WAIT_S, "the colours have changed")
    chosen = page.evaluate(ground)
    page.reload()
    filled(page)
    assert page.evaluate(ground) == chosen


def test_the_page_comes_back_with_the_line(wide_server: ServerProcess, open_page: OpenPage) -> None:
    """While the server is out of reach the page says so and keeps what it has; then it goes on by itself."""
    watched = open_page(f"{wide_server.url}/market")
    page = watched.page
    filled(page)
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    assert symbols(page)
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    # The browser itself logs them.
    assert watched.faults
    assert all("ERR_INTERNET_DISCONNECTED" in fault for fault in watched.faults)
    watched.faults.clear()


def module(page: Page, name: str, expression: str) -> Any:
    """Evaluate an expression with a module of the page in scope as `m`."""
    return page.evaluate(f"async () => {{ const m = await import('/static/js/market/{name}.js'); return {expression}; }}")


def test_the_pure_parts_of_the_page(page: Page) -> None:
    """A link that makes no sense gives the defaults; a line breaks where a half hour is missing; colour begins some way from 50."""
    defaults = module(page, "choices", "m.DEFAULTS")
    assert module(page, "choices", "m.readChoices('?interval=2m&sort=toString&dir=up&quote=&find=')") == defaults
    assert module(page, "choices", "m.writeChoices(m.DEFAULTS)") == ""
    link = "?find=btc&quote=TRY&interval=1d&sort=age&dir=asc"
    assert module(page, "choices", f"m.writeChoices(m.readChoices('{link}'))") == link
    assert module(page, "line", "m.pathOf([0, 100, null, 50])").count("M") == 2
    assert module(page, "line", "m.pathOf(null)") == ""
    assert module(page, "heat", "[50, 57, 43].map((rsi) => m.heatOf(rsi).side)") == ["calm"] * 3
    assert module(page, "heat", "[75, 25].map((rsi) => m.heatOf(rsi).side)") == ["high", "low"]
    assert module(page, "heat", "m.heatOf(100).percent") == module(page, "heat", "m.heatOf(85).percent") == 46

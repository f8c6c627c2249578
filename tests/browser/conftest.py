"""A real browser, and pages that may neither log an error nor break the security policy."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from klinestream.runtime.config import Config
from tests.eventually import eventually
from tests.integration.rest_server import Market, published
from tests.serving import ServerProcess, Windows
from tests.stack import TestBroker
from tests.topics import create_all

CANDLE_SYMBOLS = ("SUNUSDT", "DAWNUSDT")
"""Those of `candles`: no other test has them."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox",  # the sandbox needs rights that a container doesn't have; the only page opened is ours
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A chart that is shifted sixty times a second takes most of a core where no graphics card does it: only tests of motion have it.
_CONTEXT = {"viewport": {"width": 1280, "height": 760}, "reduced_motion": "reduce"}
MOVING = {"reduced_motion": "no-preference"}
_LOST = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_INTERNET_DISCONNECTED")
_NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


# No test asserts a speed: what is looked for comes when a busy machine gets to it.
expect.set_options(timeout=20_000)


# Not for the whole session: while Playwright is open an event loop runs in this thread, and no other test could run one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium from PATH. Without one the tests fail: a chart that nobody has looked at is not tested."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"expected a browser on PATH ({', '.join(_NAMES)}), got none: install Chromium, on Debian `apt-get install chromium`")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield launched
        launched.close()


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    server_dies: bool
    faults: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """Breaches of the security policy so far."""
        found: list[str] = self.page.evaluate("violations")
        return found


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """`open_page(url, **context)`: a watched page, which must have no fault at the test's end.

    With `server_dies` refused and broken connections are none: the browser itself logs them.
    """
    opened: list[Watched] = []

    def open_it(url: str, *, server_dies: bool = False, **context: Any) -> Watched:
        page = browser.new_context(**{**_CONTEXT, **context}).new_page()
        watched = Watched(page, server_dies)
        page.on("console", lambda message: watched.faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: watched.faults.append(str(error)))
        page.add_init_script(_NOTE_VIOLATIONS)
        page.goto(url)
        opened.append(watched)
        return watched

    yield open_it
    for watched in opened:
        violations = watched.violations()
        faults = [fault for fault in watched.faults if not (watched.server_dies and any(lost in fault for lost in _LOST))]
        watched.page.context.close()
        assert violations == []
        assert faults == []


@pytest.fixture(scope="session")
def windows(broker: TestBroker) -> Iterator[Windows]:
    """Publishes windows."""
    opened = Windows(broker.bootstrap_servers)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def server(broker: TestBroker, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all pages; a test that ends it starts it again."""
    assert windows is not None  # its topic is there
    create_all(broker.bootstrap_servers)
    started = ServerProcess(broker.bootstrap_servers, tmp_path_factory.mktemp("server") / "server.log", stale_after_s=3)
    started.start()
    yield started
    started.close()


@pytest.fixture(scope="session")
def candles(broker: TestBroker, server: ServerProcess) -> Market:
    """An hour and more of candles, indicators and signals of CANDLE_SYMBOLS, which the server holds."""
    settings = Config(
        candles={"history": 20},  # type: ignore[arg-type]  # pydantic makes the section of it
        # A short RSI has converged within the hour.
        indicators={"rsi": (3, 14)},  # type: ignore[arg-type]
        signals={"rsi_period": 3, "rsi_low": 49.0, "rsi_high": 51.0, "hysteresis": 0.5},  # type: ignore[arg-type]
    )
    market = published(broker.bootstrap_servers, settings, CANDLE_SYMBOLS)
    newest = {"symbol": CANDLE_SYMBOLS[-1], "interval": "1m", "limit": 1}
    due_ms = market.klines[CANDLE_SYMBOLS[-1]][-1].close_time_ms // 60_000 * 60_000 - 60_000

    def held() -> bool:
        answer = server.http.get("/api/v1/indicators", params=newest)
        return answer.status_code == 200 and any(row["t"] == due_ms for row in answer.json()["indicators"])

    eventually(held, 30, "the server holds the candles")
    return market

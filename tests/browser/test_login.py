"""A server with tokens in a real browser: logging in, out, and following a link from another site."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.axe import assert_accessible
from tests.serving import ServerProcess, Windows
from tests.stack import TestBroker

TOKEN, WRONG = "correct-horse-battery", "not-the-right-one"
ELSEWHERE = "http://elsewhere.example/"


@pytest.fixture(scope="module")
def closed_server(broker: TestBroker, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    assert windows is not None  # the topic is there
    started = ServerProcess(broker.bootstrap_servers, tmp_path_factory.mktemp("closed") / "server.log", tokens=TOKEN)
    started.start()
    yield started
    started.close()


@pytest.fixture(params=["dark", "light"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(color_scheme=request.param)
    yield context.new_page()
    context.close()


def log_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_a_reader_logs_in_where_the_chart_would_be_and_out_again(page: Page, closed_server: ServerProcess) -> None:
    """A wrong token is told; the right one leads to the page that was asked for, whose websocket opens; no script sees the cookie."""
    violations: list[str] = []
    page.on("console", lambda message: violations.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(f"{closed_server.url}/chart?symbol=ETHUSDT")
    assert_accessible(page)
    log_in(page, WRONG)
    expect(page.get_by_role("alert")).to_have_text("This server doesn't know that token.")
    assert_accessible(page)
    with page.expect_websocket() as opened:
        log_in(page, TOKEN)
    opened.value.wait_for_event("framereceived")
    expect(page).to_have_url(f"{closed_server.url}/chart?symbol=ETHUSDT")
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{closed_server.url}/login")
    assert_accessible(page)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto(f"{closed_server.url}/chart")
    expect(page.get_by_label("Token")).to_be_visible()
    assert violations == []


def test_a_link_from_another_site_needs_a_click_more(page: Page, closed_server: ServerProcess) -> None:
    """The browser keeps the cookie from what another site leads to, until the reader goes on from our own page; its form opens nothing."""

    def site(route: Route) -> None:
        form = f'<form method="post" action="{closed_server.url}/login"><input name="token" value="{TOKEN}"><button>Trick</button></form>'
        route.fulfill(body=f'<a href="{closed_server.url}/chart?symbol=ETHUSDT">Link</a>{form}', content_type="text/html")

    page.route(ELSEWHERE, site)
    page.goto(ELSEWHERE)
    page.get_by_role("button", name="Trick").click()
    expect(page.get_by_role("alert")).to_contain_text("a form of this server's own page")
    assert page.context.cookies() == []
    page.goto(f"{closed_server.url}/login")
    log_in(page, TOKEN)
    expect(page).to_have_url(re.compile("/chart"))
    page.goto(ELSEWHERE)
    page.get_by_role("link", name="Link").click()
    page.get_by_role("link", name="go on to the page").click()
    expect(page.get_by_role("region", name="Chart")).to_be_visible()
    expect(page).to_have_url(f"{closed_server.url}/chart?symbol=ETHUSDT")

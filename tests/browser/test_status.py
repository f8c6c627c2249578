"""The status page in a real browser: a real server that looks at real endpoints of metrics, and at a Flink with kept answers."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from klinestream.market.codec import encode_event
from klinestream.market.events import PipelineEvent
from klinestream.market.topics import PIPELINE_EVENTS
from klinestream.market.workflows import Happened, detail_of
from klinestream.runtime.kafka import Record
from tests.browser.axe import assert_accessible
from tests.observed import WINDOWS, Answers, Parts, answering, flink_answers, job, parts, publish
from tests.serving import ServerProcess, Windows
from tests.stack import TestBroker
from tests.topics import create_all
from tests.topics import publish as publish_records

CARDS = {
    "exchange": "Exchange",
    "producer": "Producer",
    "klines": "crypto_kline_data",
    "windows": "jobs/windows",
    "candles": "jobs/candles",
    "averages": "crypto_data_aggregated",
    "series": "crypto_candles …",
    "server": "Server",
    "page": "Page",
    "history": "History",
    "repair": "Repair",
    "alerts": "Alerts",
}
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def observed() -> Iterator[Parts]:
    with parts() as serving:
        yield serving


@pytest.fixture(scope="module")
def flink() -> Iterator[Answers]:
    with answering(flink_answers(time.time_ns() // 1_000_000)) as answers:
        yield answers


@pytest.fixture(scope="module")
def looking(
    broker: TestBroker, windows: Windows, observed: Parts, flink: Answers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server that knows where these parts are."""
    assert windows is not None  # its topic is there
    create_all(broker.bootstrap_servers)
    log = tmp_path_factory.mktemp("status") / "server.log"
    started = ServerProcess(broker.bootstrap_servers, log, observe=json.dumps(observed.observe), flink_url=flink.url)
    started.start()
    yield started
    started.close()


def card(page: Page, name: str) -> Any:
    return page.locator(f'#nodes [data-key="{name}"]')


def figure(page: Page, name: str, label: str) -> Any:
    return card(page, name).locator("dl > div", has=page.locator("dt", has_text=re.compile(f"^{label}$"))).locator("dd")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("phone", "light")])
def test_the_pipeline_is_drawn_for_every_reader(looking: ServerProcess, open_page: Any, size: str, scheme: str) -> None:
    """All parts in the order of the flow, none wider than the screen; readable by all, in both themes and on a phone."""
    width, height = SIZES[size]
    page = open_page(f"{looking.url}/status", viewport={"width": width, "height": height}, color_scheme=scheme).page
    expect(page.locator("#nodes b")).to_have_count(len(CARDS))
    assert [name.replace("\u200b", "") for name in page.locator("#nodes b").all_text_contents()] == list(CARDS.values())
    assert page.locator("#nodes > li").evaluate_all("cards => cards.map((card) => card.dataset.key)") == list(CARDS)
    for name in ("exchange", "producer", "windows", "candles", "server", "history", "repair"):
        expect(card(page, name).locator(".state")).to_have_text("running")
    expect(card(page, "alerts").locator(".state")).to_have_text("not set up")
    drawn = page.locator("#ways path").evaluate_all("ways => ways.filter((way) => way.getAttribute('d')).length")
    assert drawn == (14 if size == "wide" else 9)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def test_what_it_shows_is_what_the_parts_say(looking: ServerProcess, open_page: Any, observed: Parts) -> None:
    """Figures of a card, the percentiles, checkpoints, and the fault that Flink remembers; new ones come by themselves."""
    page = open_page(f"{looking.url}/status").page
    expect(figure(page, "producer", "symbols")).to_have_text("20")
    expect(figure(page, "windows", "behind")).to_have_text("40")
    expect(page.locator('#checkpoints [data-key="windows"]')).to_contain_text("125 kB")
    expect(page.locator("#faults")).to_contain_text("IOException: Connection to … (…) was lost")
    observed.metrics.symbols.set(21)
    publish(observed, 40)
    expect(figure(page, "producer", "symbols")).to_have_text("21")
    expect(page.locator("#latencies tr").first).to_contain_text(re.compile(r"Kline sent to Kafka → acknowledged\d"))


def test_what_is_away_is_told_and_over_when_it_is_back(looking: ServerProcess, open_page: Any, observed: Parts, flink: Answers) -> None:
    """A part that ends, one that complains, a job that restarts: on its card, in the verdict, among the faults; then all is well."""
    page = open_page(f"{looking.url}/status").page
    expect(card(page, "repair").locator(".state")).to_have_text("running")
    well = flink.of["/jobs/overview"]["jobs"]
    observed.end("repair")
    observed.wrong.append("connection 0.0: newest kline is 9.9 s old")
    flink.of["/jobs/overview"]["jobs"] = [job(WINDOWS, "klinestream windows", 0, tasks={"running": 0, "total": 3}), well[1]]
    expect(page.locator("#verdict")).to_have_text("Repair is away")
    expect(card(page, "repair").locator(".state")).to_have_text("away")
    expect(card(page, "producer").locator(".state")).to_have_text("in trouble")
    expect(card(page, "windows").locator(".state")).to_have_text("restarting")
    expect(page.locator('#parts [data-key="producer"]')).to_contain_text("newest kline is 9.9 s old")
    expect(page.locator("#ways .broken")).to_have_count(2)
    assert_accessible(page)
    observed.begin()
    observed.wrong.clear()
    flink.of["/jobs/overview"]["jobs"] = well
    expect(card(page, "repair").locator(".state")).to_have_text("running")
    expect(card(page, "windows").locator(".state")).to_have_text("running")
    expect(page.locator("#faults")).to_contain_text("away: nothing listens at its address · over")


def told(run: str, happened: Happened, text: str, ago_s: float, state: str, steps: str, **fields: object) -> Record:  # noqa: PLR0917
    """An event of a run of the workflow `train`."""
    time_ms = time.time_ns() // 1_000_000 - round(1000 * ago_s)
    detail = detail_of(text, {"run": run, "state": state, "steps": steps, **fields})
    event = PipelineEvent("workflow:train", happened, time_ms, detail)
    return Record(PIPELINE_EVENTS.name, event.component.encode(), encode_event(event), time_ms)


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("phone", "light")])
def test_runs_of_workflows_and_their_steps_are_shown(
    looking: ServerProcess, open_page: Any, broker: TestBroker, size: str, scheme: str
) -> None:
    """Each step with its state, how long it took, and why it failed; what happens comes by itself, for every reader."""
    width, height = SIZES[size]
    page = open_page(f"{looking.url}/status", viewport={"width": width, "height": height}, color_scheme=scheme).page
    publish_records(
        broker.bootstrap_servers,
        [
            told(size, Happened.STEP_STARTED, "load started", 20, "running", "load:running,train:waiting", step="load", attempt=1),
            told(size, Happened.STEP_ENDED, "load ended after 7.0 s", 13, "running", "load:done,train:waiting", step="load", attempt=1),
            told(size, Happened.STEP_STARTED, "train started", 12, "running", "load:done,train:running", step="train", attempt=2),
        ],
    )
    run = page.locator('#workflows > [data-key="train ' + size + '"]')
    expect(run.locator("h3 .state")).to_have_text("running")
    expect(run.locator('.steps [data-key="load"]')).to_have_text("loaddone7.0 s")
    expect(run.locator('.steps [data-key="train"]')).to_contain_text("attempt 2")
    why = "train failed: exit code 1: expected 500 rows or more"
    publish_records(
        broker.bootstrap_servers,
        [
            told(size, Happened.STEP_FAILED, why, 2, "running", "load:done,train:failed", step="train", attempt=2),
            told(size, Happened.RUN_ENDED, f"run ended: {why}", 1, "failed", "load:done,train:failed"),
        ],
    )
    expect(run.locator("h3 .state")).to_have_text("failed")
    expect(run.locator('.steps [data-key="train"]')).to_contain_text("expected 500 rows or more")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def test_numbers_are_written_as_an_operator_reads_them(looking: ServerProcess, open_page: Any) -> None:
    """Short, with their units; a dash for what isn't known; no less than the bound where a histogram can't tell more."""
    page = open_page(f"{looking.url}/status").page
    written = page.evaluate("""async () => {
        const format = await import("/static/js/status/format.js");
        return [["showRate", null], ["showRate", 0], ["showRate", 0.05], ["showRate", 12345], ["showBytes", 124958], ["showBytes", 999999],
            ["showSpan", 0.04], ["showSpan", 7325], ["showSpan", 200000], ["showMs", 26], ["showMs", 1234], ["showPercentile", 10000],
            ["showCount", 9999], ["showCount", 1234567], ["showShare", 0.063], ["showShare", 0.5],
        ].map(([name, value]) => format[name](value));
    }""")
    assert written == [
        *("–", "0/s", "0.05/s", "12.3K/s", "125 kB", "1.0 MB", "0.0 s", "2 h 2 min", "2 d 7 h", "26 ms", "1.2 s", "≥ 10 s"),
        *("9,999", "1.23M", "6.3 %", "50 %"),
    ]


def test_details_open_by_the_keyboard(looking: ServerProcess, open_page: Any) -> None:
    """Enter on a card shows all that is known of the part, Escape leads back to the card; new answers take neither away."""
    page = open_page(f"{looking.url}/status").page
    page.get_by_role("button", name="jobs/windows running").focus()
    page.keyboard.press("Enter")
    detail = page.locator("#detail")
    expect(detail).to_contain_text("checkpoints done")
    with page.expect_response("**/api/v1/pipeline"):
        pass
    expect(detail.locator("h2")).to_have_text("jobs/windows")
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    assert page.evaluate("document.activeElement.closest('li').dataset.key") == "windows"


def test_the_theme_is_the_reader_s_choice(looking: ServerProcess, open_page: Any) -> None:
    """The button goes through the themes, and says which one it is."""
    page = open_page(f"{looking.url}/status", color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: as the system has it").click()
    page.get_by_role("button", name="Theme: light").wait_for()
    page.wait_for_function(f"{ground} !== '{dark}'")


def test_it_says_when_the_server_is_gone_and_goes_on_when_it_is_back(looking: ServerProcess, open_page: Any) -> None:
    """What is shown stays, with its age."""
    page = open_page(f"{looking.url}/status", server_dies=True).page
    expect(page.locator("#looked")).to_have_text("Live")
    looking.kill()
    expect(page.locator("#verdict")).to_have_text("The server can’t be reached")
    expect(page.locator("#looked")).to_have_text(re.compile(r"^\d.* old$"))
    expect(figure(page, "windows", "behind")).to_have_text("40")
    assert_accessible(page)
    looking.start()
    expect(page.locator("#looked")).to_have_text("Live")
    expect(page.locator("#verdict")).not_to_have_text("The server can’t be reached")

"""The pipeline as the server tells of it: real endpoints of metrics, a Flink with kept answers, and what is worked out of them."""

import asyncio
import copy
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from klinestream.market.errors import BrokerError, ConfigError
from klinestream.market.events import FeedGap, GapState, gap_id
from klinestream.market.ledger import Ledger
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from klinestream.stack import plans
from server.app import create_app
from server.pipeline.asking import Asker
from server.pipeline.faults import FaultLog
from server.pipeline.flink import JOBS, Flink
from server.pipeline.model import Part, State
from server.pipeline.parts import Answer, part_of
from server.pipeline.samples import STARTED, Look, Samples, Trail, spread
from tests.observed import WINDOWS, Answers, Parts, answering, flink_answers, job, parts, publish

NOW_MS = 1_790_000_000_000
TEXT = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
BUCKETS = (0.01, 0.1, 0.5, 1.0, 10.0)
Get = Callable[[], Awaitable[Any]]


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


@pytest.fixture
def observed() -> Iterator[Parts]:
    with parts() as serving:
        yield serving


@pytest.fixture
def flink() -> Iterator[Answers]:
    with answering(flink_answers(NOW_MS)) as answers:
        yield answers


def gap(state: GapState, second: int) -> FeedGap:
    begin = NOW_MS - 1000 * second
    return FeedGap(
        gap_id("BTCUSDT", begin, begin + 3000), "BTCUSDT", state, "p", begin, begin + 3000, 3, "rest", True, 3, "from 10.0.0.9:443", begin
    )


def ledger() -> Ledger:
    found = Ledger()
    for state, seconds in ((GapState.REFILLED, (100, 90)), (GapState.DEFERRED, (50,))):
        for second in seconds:
            found.add(gap(state, second))
    return found


def asking(story: Callable[[Get], Awaitable[None]], *, read_gaps: Callable[[], Ledger] = ledger, **settings: Any) -> None:
    """Run a story that asks a server for its pipeline."""
    app: FastAPI = create_app(ServerConfig(**settings), no_reader, lambda: NOW_MS, read_gaps=read_gaps)

    async def told() -> None:
        # Only the end of the lifespan closes the connections to the parts; its readers find no broker.
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
        ):

            async def get() -> Any:
                answer = await client.get("/api/v1/pipeline")
                assert answer.status_code == 200
                return answer.json()

            await story(get)

    asyncio.run(told())


def by_name(told: Any) -> dict[str, Any]:
    return {part["name"]: part for part in told["parts"]}


async def answer_when(get: Get, condition: Callable[[Any], bool]) -> Any:
    """The first answer for which it holds: one is kept for a second, and a busy machine may need another look."""
    async with asyncio.timeout(30):
        while not condition(told := await get()):
            await asyncio.sleep(0.05)
    return told


def whole(told: Any) -> bool:
    """The parts, Flink and the ledger were in time."""
    return told["gaps"]["detected"] is not None and all(part["state"] == "running" for part in told["parts"] if part["name"] != "broker")


def test_each_part_is_told_of_by_its_own_metrics(observed: Parts, flink: Answers) -> None:
    """State, rate, percentiles, memory of the parts; lag, restarts, checkpoint and faults of a job; the ledger's gaps."""

    async def story(get: Get) -> None:
        first = await answer_when(get, whole)
        publish(observed, 50, seconds=0.3)
        told = await answer_when(get, lambda told: told != first and whole(told))
        found = by_name(told)
        assert {name: part["state"] for name, part in found.items()} == {
            **dict.fromkeys(("exchange", "producer", "repair", "flink", "windows", "candles", "history", "server"), "running"),
            "broker": "away",
        }
        producer = found["producer"]
        assert producer["per_s"] * producer["over_s"] == pytest.approx(50, abs=0.1)
        latency = producer["latency"]["published_to_acknowledged"]
        assert latency["count"] == 50
        assert 200 < latency["p50_ms"] < latency["p99_ms"] <= 500
        assert (producer["age_s"], producer["figures"]["symbols"], producer["restarts"]) == (0.4, 20, 0)
        assert producer["memory_bytes"] > 1_000_000
        assert found["exchange"]["figures"]["connections"] == 2
        windows = found["windows"]
        assert (windows["behind"], windows["restarts"], windows["dead_letters"], windows["up_s"]) == (40, 1, 2, 60)
        assert windows["checkpoint"] == {"age_s": 0.7, "bytes": 124_958, "duration_ms": 26, "completed": 174, "failed": 43}
        assert windows["figures"]["busy"] == 0.063
        assert (told["gaps"]["refilled"], told["gaps"]["deferred"], told["gaps"]["detected"]) == (2, 1, 0)
        assert [each["state"] for each in told["gaps"]["newest"]] == ["deferred", "refilled", "refilled"]
        fault = next(each for each in told["faults"] if each["part"] == "windows")
        assert (fault["text"], fault["time"]) == ("IOException: Connection to … (…) was lost", NOW_MS - 30_000)

    asking(story, observe=observed.observe, flink_url=flink.url)


def test_a_job_that_need_not_run_is_told_of_where_it_runs(observed: Parts, flink: Answers) -> None:
    """Windows over trades have a job of their own: without it nothing is missing, with it there is one part more."""

    async def story(get: Get) -> None:
        assert "trade_windows" not in by_name(await answer_when(get, whole))
        flink.of["/jobs/overview"]["jobs"].append(job("1" * 32, JOBS["trade_windows"], NOW_MS))
        flink.of["/jobs/" + "1" * 32] = flink.of[f"/jobs/{WINDOWS}"]
        for path in ("checkpoints", "exceptions", "metrics"):
            flink.of[f"/jobs/{'1' * 32}/{path}"] = flink.of[f"/jobs/{WINDOWS}/{path}"]
        found = by_name(await answer_when(get, lambda told: "trade_windows" in by_name(told)))
        assert (found["trade_windows"]["kind"], found["trade_windows"]["state"]) == ("job", "running")

    asking(story, observe=observed.observe, flink_url=flink.url)


def test_jobs_with_clusters_of_their_own_are_told_of_as_if_they_shared_one(observed: Parts, flink: Answers) -> None:
    """Each job is found where it runs, slots are added up; while one cluster is away its job is unknown, and the other is as it was."""
    second = copy.deepcopy(flink.of)
    flink.of["/jobs/overview"]["jobs"] = [each for each in flink.of["/jobs/overview"]["jobs"] if each["jid"] == WINDOWS]
    second["/jobs/overview"]["jobs"] = [each for each in second["/jobs/overview"]["jobs"] if each["jid"] != WINDOWS]

    with answering(second) as other:

        async def story(get: Get) -> None:
            found = by_name(await answer_when(get, whole))
            assert (found["windows"]["state"], found["candles"]["state"], found["flink"]["figures"]["slots"]) == ("running", "running", 8)
            other.of = {}
            found = by_name(await answer_when(get, lambda told: by_name(told)["candles"]["state"] == "unknown"))
            assert found["candles"]["reason"].startswith("Flink can't be asked: ")
            assert (found["windows"]["state"], found["flink"]["figures"]["slots"]) == ("running", 4)

        asking(story, observe=observed.observe, flink_url=f"{flink.url}, {other.url}")


def test_what_is_wrong_and_what_is_away_is_told_without_addresses(observed: Parts, flink: Answers) -> None:
    """A part's own words, a job that restarts, one that has ended, a part that is gone and one that comes back; never where they are."""

    async def story(get: Get) -> None:
        await answer_when(get, whole)
        observed.wrong.append("connection 2.0: newest kline is 12.3 s old, of wss://10.9.8.7:9443/ws")
        tasks = {"running": 1, "total": 3}
        flink.of["/jobs/overview"]["jobs"] = [
            job(WINDOWS, JOBS["windows"], NOW_MS, tasks=tasks),
            job("0" * 32, JOBS["candles"], NOW_MS, state="FAILED"),
        ]
        flink.of["/jobs/" + "0" * 32] = flink.of[f"/jobs/{WINDOWS}"]
        for path in ("checkpoints", "exceptions", "metrics"):
            flink.of[f"/jobs/{'0' * 32}/{path}"] = flink.of[f"/jobs/{WINDOWS}/{path}"]
        observed.end("repair")
        told = await answer_when(get, lambda told: [part["state"] for part in told["parts"]].count("away") == 3)
        found = by_name(told)
        assert found["producer"]["state"] == "running"
        assert found["producer"]["faults"] == ["connection 2.0: newest kline is 12.3 s old, of …"]
        assert (found["windows"]["state"], found["windows"]["reason"]) == ("restarting", "1 of 3 tasks run")
        assert (found["candles"]["state"], found["candles"]["reason"]) == ("away", "it has ended: FAILED")
        assert (found["repair"]["state"], found["repair"]["reason"]) == ("away", "nothing listens at its address")
        ports = [entry.rpartition(":")[2] for entry in (*observed.observe, flink.url)]
        everything = orjson.dumps(told).decode()
        assert not [word for word in ("127.0.0.1", "kafka-7", "10.1.2.3", "10.9.8.7", "10.0.0.9", *ports) if word in everything]
        observed.begin()
        observed.wrong.clear()
        told = await answer_when(get, lambda told: by_name(told)["repair"]["state"] == "running")
        faults = {(fault["part"], fault["text"]): fault["over"] for fault in told["faults"]}
        assert faults["repair", "away: nothing listens at its address"]
        assert not faults["windows", "restarting: 1 of 3 tasks run"]

    asking(story, observe=observed.observe, flink_url=flink.url)


def test_nobody_is_asked_unless_somebody_looks_and_then_once_for_all(flink: Answers) -> None:
    """Ten who ask at once get the same answer, and Flink one question of each kind."""

    async def story(get: Get) -> None:
        assert flink.asked == {}
        answers = await asyncio.gather(*(get() for _ in range(10)))
        assert all(answer == answers[0] for answer in answers)
        assert flink.asked["/overview"] == 1

    asking(story, observe=(), flink_url=flink.url)


def test_without_flink_and_parts_the_rest_is_told() -> None:
    """What has no address is unknown, with the key that would set it; a ledger that can't be read says so; the server is there."""

    def away() -> Ledger:
        raise BrokerError("expected a broker at kafka:9092")

    async def story(get: Get) -> None:
        told = await answer_when(get, lambda told: told["gaps"]["fault"] != "it is being read")
        found = by_name(told)
        assert {name: found[name]["state"] for name in ("exchange", "flink", "windows", "history", "server")} == {
            **dict.fromkeys(("exchange", "flink", "windows", "history"), "unknown"),
            "server": "running",
        }
        assert found["flink"]["reason"] == "server.flink_url is empty"
        assert "server.flink_url is empty" in found["windows"]["reason"]
        assert (told["gaps"]["detected"], told["gaps"]["newest"]) == (None, [])
        assert told["gaps"]["fault"].endswith("expected a broker at …")

    asking(story, read_gaps=away, observe=(), flink_url="")


def test_a_stranger_s_answers_are_no_fault_of_ours() -> None:
    """Another service at the address of Flink or of a part: told, whatever it answers."""
    nonsense = ("<html>", "[]", "{}", '{"jobs": [{"name": 3}]}', "\x00", "1", '{"jobs": null, "taskmanagers": "x"}', '{"jobs": [3]}')

    async def looks(answers: Answers) -> list[str]:
        asker = Asker()
        flink = Flink(answers.url, asker)
        found = []
        for text in nonsense:
            answers.of = dict.fromkeys(("/overview", "/jobs/overview"), text)
            found.append((await flink.look(NOW_MS)).away)
        await asker.close()
        return found

    async def story(get: Get) -> None:
        assert by_name(await get())["producer"]["reason"] == "it answered something else than metrics"

    with answering({"/metrics": "<html>", "/healthz": "<html>"}) as answers:
        asking(story, observe=(f"producer={answers.url}",), flink_url="")
        assert asyncio.run(looks(answers)) == ["it answered something else than Flink's REST interface does"] * len(nonsense)


@given(st.lists(st.floats(0, 9), min_size=1, max_size=200))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(observations: list[float]) -> None:
    """Whatever a histogram observed: no more can be known."""
    registry = CollectorRegistry()
    histogram = Histogram("way_seconds", "A way", registry=registry, buckets=BUCKETS)
    for seconds in observations:
        histogram.observe(seconds)
    found = spread(Samples.read(generate_latest(registry).decode()).buckets("way_seconds"))
    assert found.count == len(observations)
    for share, value in ((0.5, found.p50_s), (0.95, found.p95_s), (0.99, found.p99_s)):
        true = sorted(observations)[math.ceil(share * len(observations)) - 1]
        below, above = max((b for b in BUCKETS if b < true), default=0.0), min(b for b in BUCKETS if b >= true)
        assert value is not None
        assert below <= value <= above


def test_rates_begin_anew_with_the_part() -> None:
    """Over the looks of the span, and one before; alone since the start; a restart counts, and no rate is ever negative."""
    trail = Trail(span_s=60)
    started = {STARTED: 1000.0}

    def look(at_s: float, total: float, age_s: float) -> None:
        registry = CollectorRegistry()
        Counter("klines", "Klines", registry=registry).inc(total)
        text = generate_latest(registry).decode() + f"# TYPE {STARTED} gauge\n{STARTED} {started[STARTED]}\n"
        trail.add(Look(at_s, Samples.read(text), age_s))

    look(10, 100, age_s=50)
    assert (trail.rate("klines_total"), trail.over_s) == (2, 50)
    for second in range(1, 200):
        look(10 + second, 100 + 7 * second, age_s=50 + second)
    assert trail.rate("klines_total") == pytest.approx(7)
    assert 60 <= (trail.over_s or 0) <= 61
    started[STARTED] += 300
    look(210, 30, age_s=3)
    assert (trail.rate("klines_total"), trail.restarts) == (10, 1)


def test_a_fault_goes_on_while_only_its_numbers_change() -> None:
    """It is one fault, over when it isn't told any more; the log holds the newest only."""
    log = FaultLog(most=3)

    def note(now_ms: int, *texts: str) -> None:
        log.note([Part("producer", "producer", State.RUNNING, faults=texts)], now_ms)

    for second in range(5):
        note(second, f"newest kline is {second}.5 s old")
    [fault] = log.newest(9)
    assert (fault.time, fault.text, fault.over) == (0, "newest kline is 4.5 s old", False)
    note(6)
    note(7, "newest kline is 1.5 s old", "clock is off")
    note(8, "clock is off")
    assert [(fault.time, fault.over) for fault in log.newest(9)] == [(7, False), (7, True), (0, True)]
    note(9, "another")
    assert len(log.newest(9)) == 3


@pytest.mark.parametrize(
    "wrong", ["producer", "producer=ftp://here", "server=http://here", "producer-=http://here", "Producer=http://here"]
)
def test_a_bad_entry_is_an_error_that_names_the_key(wrong: str, configured: Callable[..., Config]) -> None:
    """Also an address of Flink that is none; neither shows the address."""
    with pytest.raises(ConfigError, match="observe must hold entries such as"):
        configured(server={"observe": [wrong]})
    with pytest.raises(ConfigError, match="flink_url") as told:
        configured(server={"flink_url": "http://flink:8081,token@flink"})
    assert "token" not in str(told.value)


def test_two_of_a_name_are_refused_and_a_second_producer_has_a_suffix(configured: Callable[..., Config]) -> None:
    """So that each part has its place on the page."""
    entries = ["producer=http://a:1", "producer-b=http://b:2"]
    assert configured(server={"observe": entries}).server.observed == {"producer": "http://a:1", "producer-b": "http://b:2"}
    with pytest.raises(ConfigError, match="each name once"):
        configured(server={"observe": [entries[0], entries[0]]})


def test_the_local_stack_tells_its_server_where_its_parts_are(configured: Callable[..., Config]) -> None:
    """Their ports, wherever they listen; alerts only where there are some; what the configuration says wins."""
    none = {"metrics_port": 0}
    config = configured(
        producer={"metrics_port": 1234, "metrics_host": "::"}, repair=none, archive=none, proof=none, stack={"flink_port": 5678}
    )
    told = plans.with_addresses(config).server
    assert (told.observe, told.flink_url) == (("producer=http://127.0.0.1:1234",), "http://127.0.0.1:5678")
    own = configured(server={"observe": ["repair=http://far:1"], "flink_url": ""})
    assert (plans.with_addresses(own).server.observe, plans.with_addresses(own).server.flink_url) == (("repair=http://far:1",), "")


def example() -> Any:
    [found] = re.findall(r"```json answer of /api/v1/pipeline\n(.*?)\n```", TEXT, re.DOTALL)
    return orjson.loads(found)


def test_the_page_s_example_has_the_form_of_an_answer(observed: Parts, flink: Answers) -> None:
    """Names at every level, of the same parts; and each figure has its line in the table of the page."""

    async def story(get: Get) -> None:
        told, shown = await answer_when(get, whole), example()
        assert list(shown) == list(told)
        found = by_name(told)
        for part in shown["parts"]:
            assert names(part) == names(found[part["name"]])
        for key in ("topics", "faults"):
            assert set(shown[key][0]) == set(told[key][0])
        assert set(shown["gaps"]) == set(told["gaps"])
        assert set(shown["gaps"]["newest"][0]) == set(told["gaps"]["newest"][0])
        for part in found.values():
            undocumented = [name for name in (*part["figures"], *part["latency"]) if f"`{name}`" not in TEXT]
            assert not undocumented, part["name"]

    asking(story, observe=observed.observe, flink_url=flink.url)


def names(part: Any) -> Any:
    return {key: sorted(value) if isinstance(value, dict) else None for key, value in part.items()}


@pytest.mark.parametrize("name", ["feed", "feed-books"])
def test_a_feed_tells_the_same_whatever_it_reads(name: str) -> None:
    """Its rate, what waits, and what it counts; one that was never there is no fault."""
    text = "\n".join(
        f"klinestream_feed_{each}"
        for each in ("records_published_total 40", "queued_records 3", "data_age_seconds 0.5", "symbols 2", "connections 1")
    )
    trail = Trail(60.0)
    samples = Samples.read(text + "\n")
    trail.add(Look(0.0, samples, 20.0))
    part = part_of(Answer(name, trail, samples, ever=True), 0)
    assert (part.kind, part.state, part.behind, part.age_s) == (name.partition("-")[0], State.RUNNING, 3, 0.5)
    assert (part.figures["symbols"], part.figures["published"]) == (2, 40)
    assert part_of(Answer(name, trail, None, away="nothing listens"), 0).state is State.UNKNOWN

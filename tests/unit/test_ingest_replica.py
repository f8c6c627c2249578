"""A replica of ingestion against a Kafka of a test's own: keys that are told late, requests sent again, bodies that fill the room."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI, Request, Response

from klinestream.ingest import app as application
from klinestream.ingest import routes
from klinestream.ingest.gate import Gate
from klinestream.ingest.intake import Intake, Kafka, Named
from klinestream.ingest.keys import Keys
from klinestream.ingest.metrics import Metrics
from klinestream.ingest.posted import Asked, Posted, klines
from klinestream.ingest.refusals import PostError
from klinestream.ingest.routes import AT_ONCE, INLINE_MOST_BYTES, Door
from klinestream.market.codec import decode_event
from klinestream.market.events import IngestKey, KeyState
from klinestream.market.topics import INGEST_KEYS
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Record
from tests.ingesting import kline_post

NOW_MS = 1_764_410_400_000
HOUR_MS = 3_600_000
WAIT_S = 10.0
JSON = {"content-type": "application/json"}


class Clock:
    """One that a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class Topics:
    """An outlet and a follower at once: what is published is acknowledged at once, and keys are known when somebody reads past them."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.connected = self.caught_up = True
        self.published: list[Record] = []
        self.unread: list[IngestKey] = []
        self.is_silent = False

    async def send(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        self.published += [record for record in records if record.topic != INGEST_KEYS.name]
        self.unread += [decode_event(IngestKey, record.value or b"") for record in records if record.topic == INGEST_KEYS.name]
        return [(0, number) for number, _ in enumerate(records)]

    def follow(self, topic: str) -> None: ...

    def late(self, *_: object) -> list[int]:
        return []

    async def past(self, topic: str, _: int, __: int) -> None:
        if self.is_silent:
            await asyncio.Event().wait()
        if topic == INGEST_KEYS.name:
            self.read()

    def read(self) -> None:
        while self.unread:
            self.keys.take(self.unread.pop(0))


def intake(topics: Topics, clock: Callable[[], int], metrics: Metrics | None = None, **settings: Any) -> Intake:
    kafka: Any = topics
    return Intake(IngestConfig(**settings), Kafka(kafka, kafka), metrics or Metrics(), "me", clock)


def one_kline() -> Posted:
    return klines([kline_post("A", NOW_MS - HOUR_MS)], Asked("ingest", NOW_MS))


def test_what_was_answered_elsewhere_and_is_not_read_yet_is_not_published_again() -> None:
    """A claim is known and long past; that it is done stands on the topic, further than was read: it is read before anything goes out."""
    topics, clock = Topics(), Clock()
    topics.keys.take(IngestKey("ingest:k", KeyState.CLAIMED, "digest", "other-0", "", NOW_MS - HOUR_MS))
    topics.unread.append(IngestKey("ingest:k", KeyState.DONE, "digest", "-", "{}", NOW_MS - HOUR_MS + 1))
    answer = asyncio.run(intake(topics, clock).take(one_kline(), Named("ingest:k", "digest")))
    assert (answer.body, answer.replayed, topics.published) == ("{}", True, [])


def test_a_claim_that_nobody_finished_is_carried_out() -> None:
    """Where the topic's end tells of no answer either."""
    topics, clock = Topics(), Clock()
    topics.keys.take(IngestKey("ingest:k", KeyState.CLAIMED, "digest", "other-0", "", NOW_MS - HOUR_MS))
    answer = asyncio.run(intake(topics, clock).take(one_kline(), Named("ingest:k", "digest")))
    assert (answer.replayed, len(topics.published)) == (False, 1)
    topics.read()
    held = topics.keys.held("ingest:k", NOW_MS)
    assert held is not None
    assert held.answer == answer.body


def test_keys_that_cannot_be_read_give_the_room_back() -> None:
    """A request under a key that nothing is told of is answered 503, is not published, and after a while counts no more."""
    topics = Topics()
    topics.is_silent = True
    replica = intake(topics, Clock(), answer_s=0.05)

    async def post() -> None:
        with pytest.raises(PostError) as refused:
            await replica.take(one_kline(), Named("ingest:k", "digest"))
        assert refused.value.status == 503
        async with asyncio.timeout(WAIT_S):
            await replica.finish()

    asyncio.run(post())
    assert (replica.waiting, topics.published) == (0, [])


def test_an_answer_does_not_wait_for_what_is_late_until_it_is_too_late() -> None:
    """The broker has all, and the topic can't be read back: that is a 202 which doesn't know what is late, however short answer_s is."""
    topics = Topics()
    topics.is_silent = True
    answer = asyncio.run(intake(topics, Clock(), answer_s=1).take(one_kline(), None))
    assert orjson.loads(answer.body)["late"] is None


class Served:
    """One route of a replica, asked without a network."""

    def __init__(self, read: routes.Read = klines, **settings: Any) -> None:
        self.topics, self.clock, self.metrics = Topics(), Clock(), Metrics()
        config = IngestConfig(**settings)
        door = Door(config, intake(self.topics, self.clock, self.metrics, **settings), self.clock)
        app = FastAPI()
        application._add_handlers(app, self.metrics)

        @app.post("/")
        async def post(request: Request) -> Response:
            return await door.take(request, None, read)

        self.app = Gate(app, config, self.metrics)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    def rejected(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("klinestream_ingest_requests_rejected_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("is_done", [True, False])
def test_a_repeated_request_is_judged_as_of_its_first_claim(is_done: bool) -> None:
    """A kline of 23 hours ago was in time when its key was claimed; two hours later the same request gets its answer, or is carried out."""
    served = Served()
    body = orjson.dumps(kline_post("A", NOW_MS - 23 * HOUR_MS))

    async def post() -> list[httpx.Response]:
        async with served.client() as client:
            answers = [await client.post("/", content=body, headers=JSON | {"idempotency-key": "k"})]
            if not is_done:
                served.topics.unread.clear()  # the replica ended before it could tell
            served.topics.read()
            served.clock.now_ms += 2 * HOUR_MS
            answers += [await client.post("/", content=body, headers=JSON | {"idempotency-key": key}) for key in ("k", "new")]
            answers.append(await client.post("/", content=b"other", headers=JSON | {"idempotency-key": "k"}))
            return answers

    first, again, new, other = asyncio.run(post())
    assert [answer.status_code for answer in (first, again, new, other)] == [202, 202, 422, 409]
    assert again.headers.get("idempotency-replayed") == ("true" if is_done else None)
    assert len(served.topics.published) == (1 if is_done else 2)
    if is_done:
        assert again.text == first.text


def test_bodies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that doesn't fit beside those on their way in is told to come later; the room is free again when they are read."""
    monkeypatch.setattr(routes, "BODIES_MOST_BYTES", 1, raising=False)
    served = Served(body_mib=1)
    whole = orjson.dumps(kline_post("A", NOW_MS - HOUR_MS)) + b" " * (700 << 10)

    async def post() -> tuple[httpx.Response, ...]:
        sent, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield whole
            sent.set()
            await go_on.wait()

        async with served.client() as client, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(client.post("/", content=slow(), headers=JSON))
            await sent.wait()
            refused = [await client.post("/", content=whole, headers=JSON) for _ in range(2)]
            go_on.set()
            return *refused, await first, await client.post("/", content=whole, headers=JSON)

    answers = asyncio.run(post())
    assert [answer.status_code for answer in answers] == [429, 429, 202, 202]
    assert int(answers[0].headers["retry-after"]) > 0
    assert served.rejected("full") == 2


def test_who_waits_too_long_for_its_turn_is_told_so() -> None:
    """Long bodies are checked a few at once; where those before take too long, the next is 503 with Retry-After."""
    going_on = threading.Event()

    def read(values: Sequence[object], asked: Asked) -> Posted:
        going_on.wait(WAIT_S)
        return klines(values, asked)

    served = Served(read, answer_s=0.3)
    body = orjson.dumps(kline_post("A", NOW_MS - HOUR_MS)) + b" " * INLINE_MOST_BYTES

    async def post() -> list[httpx.Response]:
        async with served.client() as client, asyncio.TaskGroup() as tasks:
            before = [tasks.create_task(client.post("/", content=body, headers=JSON)) for _ in range(AT_ONCE)]
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(WAIT_S / 2):
                    waited = await client.post("/", content=body, headers=JSON)
            finally:
                going_on.set()
            return [waited, *[await task for task in before], await client.post("/", content=body, headers=JSON)]

    answers = asyncio.run(post())
    assert [answer.status_code for answer in answers] == [503, *[202] * AT_ONCE, 202]
    assert int(answers[0].headers["retry-after"]) > 0


def test_who_leaves_while_sending_is_no_fault_of_ours() -> None:
    """It is counted as gone, and as 400, and nothing raises."""
    served = Served()
    parts = iter([{"type": "http.request", "body": b"[", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"host", b"localhost")], "query_string": b""}
    scope |= {"client": ("127.0.0.1", 1), "scheme": "http", "server": ("localhost", 80), "root_path": "", "http_version": "1.1"}
    asyncio.run(served.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert served.rejected("gone") == 1

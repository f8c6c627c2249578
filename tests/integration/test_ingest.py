"""Replicas of ingestion on a real broker: what is answered 202 is on the topic, whatever is posted twice, killed or slow."""

import asyncio
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import orjson
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance
from typer.testing import CliRunner

from klinestream.cli.main import app
from klinestream.ingest.app import create_app
from klinestream.ingest.demo import Load, run
from klinestream.ingest.outlet import Outlet
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import decode_history
from klinestream.market.codec import kline_from
from klinestream.market.errors import BrokerError, ConfigError, DeliveryError
from klinestream.market.events import Origin, Proof
from klinestream.market.topics import CANDLE_HISTORY, INGEST_KEYS, KLINES, LATE_DATA, TRADES, Topic
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from tests.eventually import eventually
from tests.ingesting import Held, IngestProcess, bar_post, kline_post, second_ms, trade_post
from tests.stack import TestBroker

WAIT_S = 30.0
EXAMPLES = 10
DAY_S = 86_400
GENEROUS = {"requests_per_s": 100_000, "answer_s": 30}
"""On a busy machine too, all is answered, and told whether it came late."""
HASTY = GENEROUS | {"answer_s": 8}
"""A claim of who was killed is waited for half of that."""


@pytest.fixture(scope="module")
def replicas(module_broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[IngestProcess]]:
    """Two, one with each client library."""
    with running(module_broker, tmp_path_factory.mktemp("ingest"), GENEROUS) as started:
        yield started


@pytest.fixture
def hasty(module_broker: TestBroker, tmp_path: Path) -> Iterator[list[IngestProcess]]:
    """Two that wait for nobody for long."""
    with running(module_broker, tmp_path, HASTY) as started:
        yield started


@contextmanager
def running(broker: TestBroker, folder: Path, settings: dict[str, int]) -> Iterator[list[IngestProcess]]:
    started = [
        IngestProcess(broker.bootstrap_servers, folder / f"{client}.log", client, **settings)
        for client in ("kafka-python", "confluent-kafka")
    ]
    try:
        for replica in started:
            replica.spawn()
        for replica in started:
            replica.wait_ready()
        yield started
    finally:
        for replica in started:
            replica.close()


@pytest.fixture
def held(module_broker: TestBroker) -> Iterator[Held]:
    opened = Held(module_broker.bootstrap_servers)
    yield opened
    opened.close()


def post(replica: IngestProcess, route: str, body: object, key: str = "", **parameters: str) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    return replica.http.post(route, json=body, headers=headers, params=parameters)


def name() -> str:
    """A symbol that no other test has."""
    return f"S{uuid.uuid4().hex[:12].upper()}"


def test_a_posted_kline_is_on_the_topic_when_it_is_answered(replicas: list[IngestProcess], held: Held) -> None:
    """After 202 the kline stands there under its source's name, said to be posted and unproved, at the place that was told."""
    for replica in replicas:
        symbol, opened_ms = name(), second_ms()
        answer = post(replica, "/api/v1/klines", kline_post(symbol, opened_ms))
        assert (answer.status_code, answer.json()["accepted"], answer.json()["late"]) == (202, 1, 0), answer.text
        [record] = held.of(KLINES.name, f"INGEST:{symbol}")
        kline = kline_from(record)
        assert (kline.open_time_ms, kline.origin, kline.source, kline.proof) == (opened_ms, Origin.POSTED, "ingest", Proof.NONE)
        assert kline.last_trade_id is None


def test_nobody_posts_for_the_exchange(replicas: list[IngestProcess], held: Held) -> None:
    """Binance's BTCUSDT can't be posted: not bare, not by a symbol with a venue, not as the source binance."""
    opened_ms = second_ms()
    assert post(replicas[0], "/api/v1/klines", kline_post("BTCUSDT", opened_ms), source="stocks").status_code == 202
    for body, source in ((kline_post("BINANCE:BTCUSDT", opened_ms), "stocks"), (kline_post("BTCUSDT", opened_ms), "binance")):
        assert post(replicas[0], "/api/v1/klines", body, source=source).status_code == 422
    for empty in ("", ":"):
        assert post(replicas[0], "/api/v1/klines", kline_post(name(), opened_ms), source=empty).status_code in (202, 422)
    symbols = held.symbols(KLINES.name)
    assert "STOCKS:BTCUSDT" in symbols
    assert all(":" in symbol for symbol in symbols)


def test_batches_in_all_forms_keep_their_order(replicas: list[IngestProcess], held: Held) -> None:
    """An array and lines of JSON stand on the topic as they were posted; trades carry their ids, their time and their source."""
    for replica in replicas:
        symbol, first_ms = name(), second_ms()
        klines = [kline_post(symbol, first_ms + n * 1000) for n in range(500)]
        assert post(replica, "/api/v1/klines", klines[:300]).json()["accepted"] == 300
        lines = b"\n".join(map(orjson.dumps, klines[300:]))
        answer = replica.http.post("/api/v1/klines", content=lines, headers={"content-type": "application/x-ndjson"})
        assert answer.json()["accepted"] == 200, answer.text
        assert [one["t"] for one in held.of(KLINES.name, f"INGEST:{symbol}")] == [one["t"] for one in klines]

        trades = [trade_post(symbol, n, first_ms + n // 3) for n in range(100)]
        assert post(replica, "/api/v1/trades", trades, source="Desk7").json()["late"] == 0
        found = held.of(TRADES.name, f"DESK7:{symbol}")
        assert [(one["f"], one["T"], one["p"], one["source"], one["origin"]) for one in found] == [
            (n, first_ms + n // 3, "10.50000000", "desk7", "posted") for n in range(100)
        ]


def test_posted_bars_become_candles_with_indicators(replicas: list[IngestProcess], held: Held) -> None:
    """200 daily bars, posted at two replicas, lead the candles' engine to a candle and a converged RSI each, in one run."""
    symbol, today_s = name(), int(time.time()) // DAY_S * DAY_S
    bars = [bar_post(symbol, today_s - back * DAY_S, 10 + back % 7 / 8) for back in range(200, 0, -1)]
    for replica, part in zip(replicas, (bars[:120], bars[120:]), strict=True):
        answer = post(replica, "/ingest", part, source="stocks")
        assert (answer.status_code, answer.json()["accepted"]) == (202, len(part)), answer.text
    records = held.of(CANDLE_HISTORY.name, f"STOCKS:{symbol}")
    engine = CandleEngine(CandleSettings())
    step = engine.take(decode_history(orjson.dumps(record), offset) for offset, record in enumerate(records))
    assert sum(entry.table.shape[1] for entry in step.history) == 200
    rsi = engine.value_names.index("rsi_14")
    last = step.studies[-1]
    assert (last.open_times[0] // 1000, last.since[0] // 1000) == (bars[-1]["timestamp"], bars[0]["timestamp"])
    assert bool(last.ready[rsi, 0])


def test_what_cannot_be_used_is_told_and_nothing_of_it_published(replicas: list[IngestProcess], held: Held) -> None:
    """One bad record of ten refuses the whole batch, and the answer names its number, its field, what was expected and what came."""
    symbol, first_ms = name(), second_ms()
    klines = [kline_post(symbol, first_ms + n * 1000) for n in range(10)]
    klines[7]["h"] = "0x" * 500
    answer = post(replicas[0], "/api/v1/klines", klines)
    assert answer.status_code == 422
    [fault] = answer.json()["error"]["faults"]
    assert (fault["record"], fault["field"]) == (7, "h")
    assert "decimal string" in fault["expected"]
    assert fault["came"].startswith("'0x0x")
    assert len(fault["came"]) <= 80
    assert held.of(KLINES.name, f"INGEST:{symbol}") == []


def test_the_same_key_and_request_is_published_once_at_any_replica(replicas: list[IngestProcess], held: Held) -> None:
    """Whoever asks again under a key gets the same answer at both replicas, and the topic has the records once; another body is 409."""
    symbol, key = name(), uuid.uuid4().hex
    klines = [kline_post(symbol, second_ms() + n * 1000) for n in range(20)]
    first = post(replicas[0], "/api/v1/klines", klines, key)
    again = [post(replica, "/api/v1/klines", klines, key) for replica in (*replicas, *replicas)]
    assert [answer.status_code for answer in (first, *again)] == [202] * 5
    assert {answer.text for answer in again} == {first.text}
    assert [answer.headers.get("idempotency-replayed") for answer in (first, *again)] == [None, *["true"] * 4]
    for replica in replicas:
        other = post(replica, "/api/v1/klines", klines[:5], key)
        assert (other.status_code, "Idempotency-Key" in other.text) == (409, True)
    assert len(held.of(KLINES.name, f"INGEST:{symbol}")) == 20


def test_two_bodies_race_for_a_key_and_one_wins(replicas: list[IngestProcess], held: Held) -> None:
    """Of two bodies posted at once under one key at two replicas exactly one is published, whichever it is."""
    for _ in range(3):
        symbols, key = (name(), name()), uuid.uuid4().hex
        answers: list[int] = []

        def one(replica: IngestProcess, symbol: str, key: str = key, answers: list[int] = answers) -> None:
            answers.append(post(replica, "/api/v1/klines", kline_post(symbol, second_ms()), key).status_code)

        threads = [threading.Thread(target=one, args=pair) for pair in zip(replicas, symbols, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [202, 409]
        assert sum(len(held.of(KLINES.name, f"INGEST:{symbol}")) for symbol in symbols) == 1


def test_what_stands_behind_a_newer_one_is_told_across_replicas(replicas: list[IngestProcess]) -> None:
    """A kline that one replica gets after the other has taken a newer one is told as late; who waits for each answer is never late."""
    symbol, first_ms = name(), second_ms()
    for turn in range(6):
        answer = post(replicas[turn % 2], "/api/v1/klines", kline_post(symbol, first_ms + turn * 1000)).json()
        assert answer["late"] == 0
    late = post(replicas[0], "/api/v1/klines", [kline_post(symbol, first_ms + at * 1000) for at in (2, 3, 9)]).json()
    assert (late["late"], late["symbols"][0]["late"]) == (2, 2)
    offsets = late["symbols"][0]
    assert offsets["last_offset"] > offsets["first_offset"] > answer["symbols"][0]["last_offset"]
    assert post(replicas[1], "/api/v1/klines", kline_post(symbol, first_ms + 8 * 1000)).json()["late"] == 1


def test_a_stopped_broker_fills_the_room_and_all_comes_through_in_the_end(module_broker: TestBroker, tmp_path: Path, held: Held) -> None:
    """While the broker stands still a post gets 503 and the next 429, each with Retry-After; retries then lose and double nothing."""
    replica = IngestProcess(module_broker.bootstrap_servers, tmp_path / "log", answer_s=1, waiting_most=100, batch_most=100)
    symbol, first_ms = name(), second_ms()
    batches = [[kline_post(symbol, first_ms + (part * 60 + n) * 1000) for n in range(60)] for part in range(2)]
    try:
        replica.start()
        # The first post of a process opens its producer: on a busy machine that takes longer than this replica waits.
        warm = kline_post(name(), first_ms)
        eventually(lambda: post(replica, "/api/v1/klines", warm, "warm").status_code == 202, WAIT_S, "it publishes")
        os.kill(module_broker.pid, signal.SIGSTOP)
        try:
            slow = post(replica, "/api/v1/klines", batches[0], "first")
            full = post(replica, "/api/v1/klines", batches[1], "second")
        finally:
            os.kill(module_broker.pid, signal.SIGCONT)
        assert (slow.status_code, full.status_code) == (503, 429), (slow.text, full.text)
        assert int(slow.headers["retry-after"]) > 0 < int(full.headers["retry-after"])
        for batch, key in zip(batches, ("first", "second"), strict=True):
            eventually(lambda batch=batch, key=key: post(replica, "/api/v1/klines", batch, key).status_code == 202, WAIT_S, "it is taken")
        assert [one["t"] for one in held.of(KLINES.name, f"INGEST:{symbol}")] == [one["t"] for batch in batches for one in batch]
        assert replica.metric("klinestream_ingest_requests_rejected_total", reason="full") == 1
        eventually(lambda: replica.metric("klinestream_ingest_records_waiting") == 0, WAIT_S, "nothing waits")
    finally:
        replica.close()


def test_what_was_taken_is_answered_before_the_end(module_broker: TestBroker, tmp_path: Path, held: Held) -> None:
    """SIGTERM while a request waits for a broker that stands still: it is answered 202 when the broker goes on."""
    replica = IngestProcess(module_broker.bootstrap_servers, tmp_path / "log", answer_s=15)
    symbol = name()
    answers: list[httpx.Response] = []
    try:
        replica.start()
        os.kill(module_broker.pid, signal.SIGSTOP)
        try:
            posting = threading.Thread(target=lambda: answers.append(post(replica, "/api/v1/klines", kline_post(symbol, second_ms()))))
            posting.start()
            eventually(lambda: replica.metric("klinestream_ingest_records_waiting") == 1, WAIT_S, "it waits")
            replica.ask_to_end()
            eventually(lambda: not replica.ready(), WAIT_S, "it listens no more")
        finally:
            os.kill(module_broker.pid, signal.SIGCONT)
        posting.join()
        assert [answer.status_code for answer in answers] == [202]
        assert replica.ended() == 0
        assert len(held.of(KLINES.name, f"INGEST:{symbol}")) == 1
    finally:
        replica.close()


@pytest.mark.parametrize(("kind", "topic"), [("klines", KLINES), ("trades", TRADES), ("bars", CANDLE_HISTORY)])
def test_the_load_generator_posts_and_ends(replicas: list[IngestProcess], held: Held, kind: str, topic: Topic) -> None:
    """It posts each kind to both replicas, all is answered 202 and is there, each symbol's own in order, and it ends by itself."""
    load = Load(tuple(replica.url for replica in replicas), kind, rate=400, batch=10, symbols=4, seconds=0.5, source=f"d{kind}", keys=True)
    outcomes = run(load)
    assert {(one.url, one.status) for one in outcomes} == {(url, "202") for url in load.urls}
    assert sum(one.late for one in outcomes) == 0
    found = {symbol: records for symbol, records in held.symbols(topic.name).items() if symbol.startswith(f"D{kind.upper()}:")}
    counted = sum(len(record.get("rows", [record])) for records in found.values() for record in records)
    assert len(found) == 4
    assert counted == sum(one.records for one in outcomes) >= 40


def test_each_symbol_of_a_load_is_posted_once_at_least(replicas: list[IngestProcess]) -> None:
    """However short the load is, and however busy the machine."""
    load = Load(tuple(replica.url for replica in replicas), "klines", rate=400, batch=10, symbols=4, seconds=0, source="short", keys=True)
    assert [(one.url, one.status, one.records) for one in run(load)] == [(url, "202", 20) for url in sorted(load.urls)]


def test_made_up_records_stay_on_this_machine() -> None:
    """The load generator refuses another machine's address unless it is told that this is meant."""
    refused = CliRunner().invoke(app, ["ingest-demo", "--url", "http://192.0.2.1:8085"])
    assert isinstance(refused.exception, ConfigError)
    assert "--yes-really-elsewhere" in str(refused.exception)


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_after_a_loss_the_next_request_is_published(module_broker: TestBroker, client: str) -> None:
    """Records that the broker refuses are told to who sent them; the client that lost them is replaced, and what follows arrives."""
    config = KafkaConfig(bootstrap_servers=module_broker.bootstrap_servers, client=client)
    outlet = Outlet(lambda: open_publisher(config, "test-outlet"))
    outlet.start()

    async def send() -> list[tuple[int, int]]:
        refused = Record(KLINES.name, b"INGEST:A", b"v", 4_102_444_800_000)
        with pytest.raises(DeliveryError):
            await outlet.send([refused])
        return await outlet.send([Record(LATE_DATA.name, b"k", b"v", second_ms())])

    try:
        ((partition, offset),) = asyncio.run(send())
        assert partition in range(LATE_DATA.partitions)
        assert offset >= 0
        eventually(lambda: outlet.connected, WAIT_S, "it is ready again")
    finally:
        outlet.stop(5)


class Client(threading.Thread):
    """Posts a symbol's batches in order, each until it is answered 202, at whichever replica takes it."""

    def __init__(self, replicas: list[IngestProcess], symbol: str, stopped: threading.Event, size: int) -> None:
        super().__init__(name=f"client-{symbol}")
        self.accepted: list[int] = []
        self.refused: list[str] = []
        self.late = 0
        self._urls = [replica.url for replica in replicas]
        self._symbol = symbol
        self._stopped = stopped
        self._size = size

    def run(self) -> None:
        opened_ms = second_ms(40_000)
        with httpx.Client(timeout=30) as http:
            while not self._stopped.is_set():
                batch = [kline_post(self._symbol, opened_ms + n * 1000) for n in range(self._size)]
                opened_ms += self._size * 1000
                self._until_taken(http, batch, uuid.uuid4().hex)

    def _until_taken(self, http: httpx.Client, batch: list[dict[str, Any]], key: str) -> None:
        for turn in range(10_000):
            try:
                url = self._urls[turn % len(self._urls)]
                answer = http.post(f"{url}/api/v1/klines", json=batch, headers={"idempotency-key": key})
            except httpx.TransportError:
                time.sleep(0.05)  # a replica is away: this is the load, not the test's wait
                continue
            if answer.status_code == 202:
                self.accepted += [one["t"] for one in batch]
                return
            self.refused.append(f"{answer.status_code} {answer.text}")
            assert answer.status_code in (429, 503), answer.text
            time.sleep(0.05)
        raise AssertionError(f"never taken: {self.refused[-1:]}")


def kills(broker: TestBroker, replicas: list[IngestProcess], held: Held, *, clients: int, size: int, rounds: int) -> None:
    """Kill and start replicas and the broker under load; then all that was answered is there, once by identity and in order."""
    stopped = threading.Event()
    posting = [Client(replicas, name(), stopped, size) for _ in range(clients)]
    for client in posting:
        client.start()

    def goes_on(client: Client, more: int = 2) -> None:
        enough = len(client.accepted) + more * size
        eventually(lambda: len(client.accepted) >= enough or not client.is_alive(), 60, "the load goes on")

    try:
        for turn in range(rounds):
            goes_on(posting[0])
            replicas[turn % 2].kill()
            goes_on(posting[-1])
            replicas[turn % 2].start()
            goes_on(posting[0])
            broker.kill()
            broker.start()
            for client in posting:
                goes_on(client, 1)
    finally:
        stopped.set()
        for client in posting:
            client.join()
    for client in posting:
        assert client.accepted
        times = [one["t"] for one in held.of(KLINES.name, f"INGEST:{client._symbol}")]
        first_seen = list(dict.fromkeys(times))
        assert first_seen == client.accepted  # each, once by identity, in the order in which it was posted
    digests: dict[str, set[str]] = {}
    for key, states in held.symbols(INGEST_KEYS.name).items():
        digests.setdefault(key, set()).update(state["digest"] for state in states)
    assert digests


def test_killed_replicas_and_brokers_lose_nothing(module_broker: TestBroker, hasty: list[IngestProcess], held: Held) -> None:
    """A replica and the broker are killed with -9 under load: each record that was answered 202 is there, once by identity, in order."""
    kills(module_broker, hasty, held, clients=3, size=20, rounds=1)


@pytest.mark.soak
def test_many_kills_lose_nothing(module_broker: TestBroker, hasty: list[IngestProcess], held: Held) -> None:
    """The same eight times over, with more clients."""
    kills(module_broker, hasty, held, clients=12, size=50, rounds=8)


def no_kafka() -> Any:
    raise BrokerError("expected no broker in this test")


api = schemathesis.openapi.from_dict(create_app(IngestConfig(), no_kafka, no_kafka, "described").openapi())


@schemathesis.serializer("application/x-ndjson")
def lines(_: object, value: object) -> bytes:
    """Whatever is to be a line, or several."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@api.parametrize()
@hypothesis.settings(max_examples=EXAMPLES)
def test_every_answer_is_one_that_is_documented(case: schemathesis.Case, replicas: list[IngestProcess]) -> None:
    """Status, media type, headers and body are those of the document, and none is a fault of the program.

    Only that all that is allowed be taken is not asked for: what a schema can't say is refused too, such as a high below the low.
    """
    case.call_and_validate(base_url=replicas[0].url, excluded_checks=[positive_data_acceptance])

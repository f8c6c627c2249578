"""From a client's subscription at a real server over a real broker to what is asked of the exchange first."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from websockets.sync.client import ClientConnection, connect

from klinestream.market.codec import decode_event
from klinestream.market.events import SymbolsWatched
from klinestream.market.topics import WATCHED
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.runtime.watched import Watched, WatchedFollower
from klinestream.runtime.weights import Weights
from producer.fetcher import Counts
from producer.refill import Refiller, Request
from tests.canned_rest import canned_rest
from tests.eventually import eventually
from tests.klines import START_MS
from tests.serving import ServerProcess, create_topic, now_ms
from tests.stack import TestBroker
from tests.topics import Topic, kafka, publish

SOON_S = 15.0
START_S = 30.0


@pytest.fixture(scope="module")
def topic(broker: TestBroker) -> str:
    """The topic, made."""
    create_topic(broker.bootstrap_servers)
    with TopicAdmin(kafka(broker.bootstrap_servers)) as admin:
        admin.create([WATCHED])
    return WATCHED.name


@contextmanager
def following(broker: TestBroker) -> Iterator[Watched]:
    """What is watched, kept up until the block ends; nothing must have gone to the failures."""
    watched, failures = Watched(), SimpleQueue[Exception]()
    follower = WatchedFollower(kafka(broker.bootstrap_servers), watched, failures)
    follower.start()
    try:
        yield watched
    finally:
        follower.stop()
        follower.join(SOON_S)
        assert not follower.is_alive()
        assert failures.empty()


@contextmanager
def serving(broker: TestBroker, log: Path, name: str) -> Iterator[ServerProcess]:
    server = ServerProcess(broker.bootstrap_servers, log, name=name)
    server.start()
    try:
        yield server
    finally:
        server.close()


def say(client: ClientConnection, op: str, *symbols: str) -> None:
    for symbol in symbols:
        client.send(json.dumps({"op": op, "symbol": symbol}))


def told(broker: TestBroker, server: str) -> list[tuple[str, ...] | None]:
    """All that a server said so far, None where it withdrew it."""
    topic = Topic(broker.bootstrap_servers, WATCHED.name)
    found = [
        record.value and decode_event(SymbolsWatched, record.value).symbols for record in topic.read() if record.key == server.encode()
    ]
    topic.close()
    return [symbols or None for symbols in found]


def test_a_subscription_moves_a_symbol_up(broker: TestBroker, topic: str, tmp_path: Path) -> None:
    """What a client subscribes to is asked of REST before what has waited longer; wildcards and garbage harm nobody."""
    assert topic
    with serving(broker, tmp_path / "server.log", "moves-up") as server, following(broker) as watched, canned_rest() as exchange:
        answered: list[str] = []
        refiller = Refiller(
            Config(exchange=ExchangeConfig(rest_url=exchange.url), producer=ProducerConfig(refill_workers=1)),
            Counts(),
            lambda request, _: answered.append(request.symbol),
            lambda request, reason: pytest.fail(f"{request}: {reason}"),
            weights=Weights(6000),
            failures=SimpleQueue(),
            first=watched.symbols,
        )
        for number, symbol in enumerate(["AUSDT", "BUSDT", "CUSDT", "UPUSDT"]):
            assert refiller.ask(Request(symbol, START_MS + 1000 * number, START_MS + 1000 * (number + 1)))
        with connect(server.websocket_url, proxy=None) as client:
            say(client, "subscribe", "UPUSDT", "*", "*USDT", "TWO WORDS", "NOTHING")
            eventually(lambda: "UPUSDT" in watched.symbols(), SOON_S, "the producer knows")
            assert "*" not in watched.symbols()
            refiller.start()
            eventually(lambda: len(answered) == 4, SOON_S, "all answered")
            assert answered == ["UPUSDT", "AUSDT", "BUSDT", "CUSDT"]
            say(client, "unsubscribe", "NOTHING")
            eventually(lambda: "NOTHING" not in watched.symbols(), SOON_S, "only what is left")
            assert "UPUSDT" in watched.symbols()
        refiller.stop(SOON_S)
        eventually(lambda: "UPUSDT" not in watched.symbols(), SOON_S, "nobody looks any more")
        # How many a busy server tells of at first is its own affair: the subscriptions came one by one.
        assert told(broker, "moves-up")[-3:] == [("NOTHING", "UPUSDT"), ("UPUSDT",), None]


def test_a_server_that_ends_withdraws_what_it_said(broker: TestBroker, topic: str, tmp_path: Path) -> None:
    """Its clients look at nothing any more, before the three minutes are over; what lies on the topic from before counts at once."""
    with serving(broker, tmp_path / "server.log", "ends") as server, connect(server.websocket_url, proxy=None) as client:
        say(client, "subscribe", "ENDSUSDT")
        eventually(lambda: told(broker, "ends") == [("ENDSUSDT",)], SOON_S, "it was said")
        publish(broker.bootstrap_servers, [Record(topic, b"ends", b"garbage", now_ms())])
        with following(broker) as watched:
            eventually(lambda: watched.passed_over and "ENDSUSDT" in watched.symbols(), SOON_S, "found, and garbage passed over")
            assert server.stop() == 0
            eventually(lambda: "ENDSUSDT" not in watched.symbols(), SOON_S, "withdrawn")


def test_a_broker_that_is_away_holds_nobody_up(broker: TestBroker, topic: str, tmp_path: Path) -> None:
    """Clients are answered while it is away; when it is back, what they look at then is told."""
    assert topic
    with (
        serving(broker, tmp_path / "server.log", "away") as server,
        following(broker) as watched,
        connect(server.websocket_url, proxy=None) as client,
    ):
        broker.kill()
        try:
            for symbol in ("AWAYUSDT", "AWAYTOOUSDT"):
                say(client, "subscribe", symbol)
                assert json.loads(client.recv(timeout=SOON_S))["type"] in ("snapshot", "heartbeat")
        finally:
            broker.start()
        eventually(lambda: watched.symbols() >= {"AWAYUSDT", "AWAYTOOUSDT"}, START_S, "told after all")

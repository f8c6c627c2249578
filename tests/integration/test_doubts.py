"""Klines that REST gave too early: published, contradicted by the next trade, put right through the repairs."""

import time
from collections.abc import Iterator
from http import HTTPStatus
from queue import SimpleQueue

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from klinestream.market.codec import decode_gap, decode_kline
from klinestream.market.events import GapState
from klinestream.market.ledger import Ledger
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS, KLINES
from klinestream.replay.repairs.window_topics import klines_of
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Reader, open_publisher, open_reader
from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from klinestream.runtime.weights import Weights
from producer.fleet import Fleet
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.tails import Tails
from tests.eventually import eventually
from tests.integration.running_producer import SOON_S, Since, create_topics, empty_topics, now_s, seconds
from tests.integration.small_exchange import SmallExchange, frame, kline
from tests.stack import TestBroker
from tests.topics import kafka

AFTER_S = (0.3, 0.6, 1.0)


class HastyExchange(SmallExchange):
    """Its REST gives some seconds before it has all their trades."""

    def __init__(self) -> None:
        self.hasty: dict[int, int] = {}
        """Second → how many answers still lack a trade of it."""
        super().__init__()

    def _rest(self, connection: ServerConnection, request: Request) -> Response | None:
        found = super()._rest(connection, request)
        if found is None or not request.path.startswith("/api/v3/klines"):
            return found
        rows = orjson.loads(found.body or b"")
        for row in rows:
            if self.hasty.get(row[0] // 1000, 0) > 0:
                self.hasty[row[0] // 1000] -= 1
                row[5], row[8] = "1.00000000", row[8] - 1
        body = orjson.dumps(rows)
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)


@pytest.fixture
def exchange() -> Iterator[HastyExchange]:
    opened = HastyExchange()
    yield opened
    opened.close()


@pytest.fixture
def reader(broker: TestBroker) -> Iterator[Reader]:
    create_topics(broker)
    empty_topics(broker)
    opened = open_reader(kafka(broker.bootstrap_servers), "test")
    yield opened
    opened.close()


@pytest.fixture
def metrics(broker: TestBroker, exchange: HastyExchange, reader: Reader) -> Iterator[Metrics]:
    """Those of a fleet that follows BTCUSDT there, and ends without a failure."""
    assert reader.bounds(KLINES.name)
    metrics, failures = Metrics(), SimpleQueue[Exception]()
    address = {"websocket_url": exchange.tables["websocket_url"], "rest_url": exchange.tables["rest_url"]}
    config = Config(kafka=kafka(broker.bootstrap_servers), exchange=ExchangeConfig(**address), producer=ProducerConfig(silence_s=60))
    publisher = open_publisher(config.kafka, "test")
    outlet = Outlet(publisher, "test", exchange.tables["websocket_url"], metrics, lambda: time.time_ns() // 1_000_000)
    fleet = Fleet(
        config,
        KLINES.partitions,
        outlet,
        metrics,
        tails=Tails(config.kafka, "test"),
        weights=Weights(6000),
        now_ms=lambda: time.time_ns() // 1_000_000,
        failures=failures,
        doubts_after_s=AFTER_S,
    )
    fleet.start()
    fleet.follow(["BTCUSDT"], Ledger())
    eventually(lambda: exchange.subscribed("BTCUSDT"), SOON_S, "subscribed")
    yield metrics
    fleet.stop()
    publisher.close(SOON_S)
    assert failures.empty()


def metric(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"klinestream_producer_{name}", labels) or 0.0


def publish_too_early(exchange: HastyExchange, since: Since, answers: int) -> int:
    """Miss a second whose first answers lack a trade; returns its number. It is published before anything can prove it."""
    begin = now_s() // 3 * 3 + 1  # one trade; the next second has two, the one after none
    exchange.hasty[begin + 1] = answers
    exchange.say("BTCUSDT", frame("BTCUSDT", begin), frame("BTCUSDT", begin + 2))
    eventually(lambda: len(since.of(KLINES.name)) == 3, SOON_S, "the missing second is published")
    exchange.say("BTCUSDT", *(frame("BTCUSDT", begin + second) for second in range(3, 6)))
    return begin


def test_what_rest_gave_too_early_is_put_right(exchange: HastyExchange, reader: Reader, metrics: Metrics) -> None:
    """The next trade contradicts it, REST is asked until it gives as many trades as the ids tell, and that goes to the repairs."""
    since = Since(reader)
    begin = publish_too_early(exchange, since, answers=2)
    (repair,) = eventually(lambda: since.of(KLINE_REPAIRS.name), SOON_S, "the correction")
    published = since.klines(6)["BTCUSDT"]
    assert seconds(published) == list(range(begin, begin + 6))
    right = kline("BTCUSDT", begin + 1)
    corrected = decode_kline(repair.value or b"")
    assert (published[1].trades, corrected.trades) == (1, 2)
    assert (corrected.open_time_ms, corrected.base_volume) == (right["t"], 150_000_000)
    assert exchange.asked == [("BTCUSDT", begin + 1, begin + 1)] * 3
    eventually(lambda: metric(metrics, "doubts_settled_total", outcome="corrected") == 1, SOON_S, "settled")
    assert metric(metrics, "doubtful_spans_total") == 1
    entries = eventually(lambda: len(found := since.of(FEED_GAPS.name)) == 3 and found, SOON_S, "the ledger")
    found = [decode_gap(entry.value or b"") for entry in entries or ()]
    assert [(entry.state, entry.proved) for entry in found] == [
        (GapState.DETECTED, False),
        (GapState.REFILLED, False),
        (GapState.REPAIRED, True),
    ]
    assert found[2].gap == found[1].gap
    # What repairs windows reads it as any other repair.
    late, _ = klines_of([repair])
    assert late.open_times.tolist() == [right["t"]]


def test_what_the_exchange_stays_with_is_unexplained(exchange: HastyExchange, reader: Reader, metrics: Metrics) -> None:
    """After the last answer that the ids contradict it is counted, nothing goes to the repairs, and the exchange is left alone."""
    since = Since(reader)
    begin = publish_too_early(exchange, since, answers=100)
    eventually(lambda: metric(metrics, "doubts_settled_total", outcome="unexplained") == 1, SOON_S, "settled")
    assert exchange.asked == [("BTCUSDT", begin + 1, begin + 1)] * (1 + len(AFTER_S))
    assert metric(metrics, "doubts_waiting") == 0
    assert not since.of(KLINE_REPAIRS.name)

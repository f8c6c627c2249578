import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import httpx
import orjson
import pytest

from klinestream.market.codec import kline_object
from klinestream.market.events import Kline
from klinestream.runtime.config import Config
from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from klinestream.runtime.weights import MINUTE_MS, Weights
from klinestream.standin.exchange import Settings
from klinestream.standin.faults import Refuse, Slow, Withhold
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.weights import Limits
from producer.fetcher import Counts
from producer.refill import Refiller, Request
from tests.eventually import eventually
from tests.integration.running_standin import RunningStandin, market, running

SOON_S = 40.0
LONG_AGO_MS = 1_700_000_000_000
KLINES_PATH = "/api/v3/klines"
OF_THE_FEED_ALONE = ("f", "L", "last_trade_id", "origin", "source", "proof", "i")


@pytest.fixture
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


class Refilling:
    """A Refiller of a stand-in, and what came of it."""

    def __init__(self, standin: RunningStandin, weight_per_minute: int = 6000) -> None:
        self.answers: list[tuple[Request, list[Kline]]] = []
        self.failed: list[tuple[Request, str]] = []
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        exchange = ExchangeConfig(rest_url=standin.http, weight_per_minute=weight_per_minute)
        self.workers = 4
        self.weights = Weights(exchange.weight_per_minute)
        self.refiller = Refiller(
            Config(exchange=exchange, producer=ProducerConfig(refill_workers=self.workers)),
            Counts(),
            lambda request, klines: self.answers.append((request, klines)),
            lambda request, reason: self.failed.append((request, reason)),
            weights=self.weights,
            failures=self.failures,
        )

    def klines(self, count: int) -> list[list[Kline]]:
        """The klines of so many answers, once they are there."""
        eventually(lambda: len(self.answers) >= count, SOON_S, f"{count} answers")
        return [klines for _, klines in self.answers]


@contextmanager
def refilling(standin: RunningStandin, **settings: Any) -> Iterator[Refilling]:
    made = Refilling(standin, **settings)
    made.refiller.start()
    try:
        yield made
    finally:
        made.refiller.stop(SOON_S)
        assert made.failures.empty()
        assert not made.failed


def sent(standin: RunningStandin, status: int) -> int:
    """How many requests for klines the stand-in has answered with a status."""
    samples = next(iter(standin.exchange.metrics.requests.collect())).samples
    return sum(
        int(sample.value)
        for sample in samples
        if sample.name.endswith("_total") and sample.labels == {"path": KLINES_PATH, "status": str(status)}
    )


def of_many_spans(standin: RunningStandin, count: int, urgent: bool) -> list[Request]:
    """Requests of all symbols in turn, each for two seconds of its own."""
    symbols = itertools.cycle(standin.exchange.market.symbols)
    return [Request(next(symbols), LONG_AGO_MS + 2000 * number, LONG_AGO_MS + 2000 * (number + 1), urgent) for number in range(count)]


def market_fields(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in (*OF_THE_FEED_ALONE, "x", "B")}


def test_refilled_klines_are_the_feeds(standin: RunningStandin) -> None:
    """What REST gives for seconds of the feed has the market fields that the websocket gave."""
    live: list[dict[str, Any]] = []
    with standin.connected("/ws/btcusdt@kline_1s") as connection:
        while len(live) < 3:
            kline = orjson.loads(connection.recv())["k"]
            if kline["x"]:
                live.append(kline)
    with refilling(standin) as refills:
        span = Request("BTCUSDT", live[0]["t"], live[-1]["t"] + 1000, urgent=True)

        def complete() -> list[Kline]:
            # A second that closed just now may be missing for a moment.
            assert refills.refiller.ask(span)
            return next((klines for _, klines in reversed(refills.answers) if len(klines) == 3), [])

        found = eventually(complete, SOON_S, "all three seconds")
    assert [market_fields(kline_object(kline)) for kline in found] == [market_fields(kline) for kline in live]


def test_a_long_span_is_the_markets(standin: RunningStandin) -> None:
    """A thousand seconds of a symbol are those of the market, none missing, in order."""
    to_ms = LONG_AGO_MS + 1_000_000
    with refilling(standin) as refills:
        assert refills.refiller.ask(Request("ETHUSDT", LONG_AGO_MS, to_ms))
        (found,) = refills.klines(1)
    truth = market().candles("ETHUSDT", INTERVALS["1s"], LONG_AGO_MS, to_ms, to_ms)
    names = ("open_time_ms", "close_time_ms", "open", "high", "low", "close", "base_volume", "quote_volume", "trades")
    assert [[getattr(kline, name) for name in names] for kline in found] == [[getattr(candle, name) for name in names] for candle in truth]
    assert len(found) == 1000


def test_many_requests_stay_within_the_limits() -> None:
    """More requests than the exchange allows in a minute are sent as far as their share goes; urgent ones still pass, none is refused."""
    limit = 200
    with running(Settings(limits=Limits(weight_per_minute=limit))) as standin, refilling(standin, weight_per_minute=limit) as refills:
        began_ms = time.time_ns() // 1_000_000
        assert all(refills.refiller.ask(request) for request in of_many_spans(standin, 150, urgent=False))
        refills.klines(limit // 2 // 2)
        urgent = of_many_spans(standin, 20, urgent=True)
        assert all(refills.refiller.ask(request) for request in urgent)
        eventually(lambda: set(urgent) <= {request for request, _ in refills.answers}, SOON_S, "the urgent ones answered")
        minutes = time.time_ns() // 1_000_000 // MINUTE_MS - began_ms // MINUTE_MS + 1
        assert len(refills.answers) <= minutes * limit // 2 // 2 + len(urgent)
        assert sent(standin, 429) == sent(standin, 418) == 0
        assert int(httpx.get(f"{standin.http}/api/v3/ping", trust_env=False).headers["X-MBX-USED-WEIGHT-1M"]) <= limit * 90 // 100 + 1


@pytest.mark.parametrize("status", [429, 418])
def test_refusals_are_obeyed(standin: RunningStandin, status: int) -> None:
    """After a refusal nothing is sent until Retry-After is over; then all requests are answered."""
    standin.client.inject(Refuse.model_validate({"status": status, "seconds": 5}))
    with refilling(standin) as refills:
        wanted = of_many_spans(standin, 40, urgent=True)
        assert all(refills.refiller.ask(request) for request in wanted)
        eventually(refills.weights.closed_s, SOON_S, "refused, and closed")
        answered = refills.klines(len(wanted))
        # Those that were under way already when the first refusal came, and no more.
        assert 1 <= sent(standin, status) <= refills.workers
        assert sent(standin, 200) == len(wanted)
        assert all(len(klines) == 2 for klines in answered)


def test_an_overloaded_exchange_is_asked_again(standin: RunningStandin) -> None:
    """While the exchange answers 503 requests are tried again, until all are answered."""
    standin.client.inject(Refuse(status=503, seconds=60))
    with refilling(standin) as refills:
        wanted = of_many_spans(standin, 30, urgent=False)
        assert all(refills.refiller.ask(request) for request in wanted)
        eventually(lambda: sent(standin, 503) > refills.workers, SOON_S, "tried again")
        assert not refills.answers
        standin.client.clear()
        assert all(len(klines) == 2 for klines in refills.klines(len(wanted)))


def test_a_request_without_an_answer_is_sent_again(standin: RunningStandin) -> None:
    """An urgent request that isn't answered in time is sent again, and answered then."""
    standin.client.inject(Slow(seconds=60, delay_s=20))
    with refilling(standin) as refills:
        (wanted,) = of_many_spans(standin, 1, urgent=True)
        assert refills.refiller.ask(wanted)
        eventually(refills.refiller.asking, SOON_S, "under way")
        standin.client.wait(lambda _: refills.weights.used() == 2)
        standin.client.clear()
        assert len(refills.klines(1)[0]) == 2


def test_withheld_klines_come_when_asked_for_again(standin: RunningStandin) -> None:
    """Seconds that REST doesn't have yet are missing in an answer, which is no error; asked for again, they come."""
    standin.client.inject(Withhold(seconds=60, symbols="BTCUSDT", from_ms=LONG_AGO_MS + 1000))
    with refilling(standin) as refills:
        wanted = Request("BTCUSDT", LONG_AGO_MS, LONG_AGO_MS + 3000, urgent=True)
        assert refills.refiller.ask(wanted)
        assert [kline.open_time_ms for kline in refills.klines(1)[0]] == [LONG_AGO_MS]
        standin.client.clear()
        assert refills.refiller.ask(wanted)
        assert len(refills.klines(2)[1]) == 3

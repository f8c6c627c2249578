import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from klinestream.market.events import Kline
from klinestream.runtime.config import Config
from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from klinestream.runtime.weights import Weights
from producer.fetcher import Counts
from producer.refill import SPAN_MOST_MS, Refiller, Request
from tests.canned_rest import Answer, CannedRest, all_klines, canned_rest
from tests.eventually import eventually
from tests.klines import START_MS

SOON_S = 10.0


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as served:
        yield served


def request(symbol: str = "BTCUSDT", second: int = 0, seconds: int = 1, urgent: bool = False) -> Request:
    return Request(symbol, START_MS + 1000 * second, START_MS + 1000 * (second + seconds), urgent)


class Refilling:
    """A Refiller, and what came of it."""

    def __init__(
        self,
        exchange: CannedRest,
        weights: Weights | None = None,
        queue_most: int = 1000,
        first: Callable[[], frozenset[str]] | None = None,
        **producer: Any,
    ) -> None:
        self.weights = weights or Weights(6000)
        self.answers: list[tuple[Request, list[Kline]]] = []
        self.failed: list[tuple[Request, str]] = []
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.counted: Counter[str] = Counter()
        self.also: Callable[[Request], object] = lambda _: None
        settings = {"refill_workers": 1, "backoff_first_s": 0.01, "backoff_most_s": 0.05} | producer
        self.refiller = Refiller(
            Config(exchange=ExchangeConfig(rest_url=exchange.url), producer=ProducerConfig(**settings)),
            Counts(*(lambda *_, name=name: self.counted.update([name]) for name in Counts.__slots__)),
            self._answered,
            lambda request, reason: self.failed.append((request, reason)),
            weights=self.weights,
            failures=self.failures,
            first=first,
            queue_most=queue_most,
        )

    def _answered(self, request: Request, klines: list[Kline]) -> None:
        self.answers.append((request, klines))
        self.also(request)

    def threads(self) -> int:
        return sum(worker.is_alive() for worker in self.refiller._workers)

    @contextmanager
    def started(self) -> Iterator[Refiller]:
        self.refiller.start()
        try:
            yield self.refiller
        finally:
            self.refiller.stop(SOON_S)
            assert not self.threads()


@pytest.mark.parametrize(("from_ms", "to_ms"), [(0, SPAN_MOST_MS + 1000), (0, 0), (1, 1001), (1000, 0)])
def test_requests_that_cannot_be_made(from_ms: int, to_ms: int) -> None:
    """A request is for 1 to 1000 whole seconds."""
    with pytest.raises(ValueError, match="whole seconds"):
        Request("BTCUSDT", from_ms, to_ms)


def test_the_most_wanted_first(exchange: CannedRest) -> None:
    """Urgent requests come before others, then those of priority symbols, then the oldest."""
    refilling = Refilling(exchange, priority_symbols=("ETHUSDT",))
    in_order = [
        request("ETHUSDT", 50, urgent=True), request("BTCUSDT", 10, urgent=True), request("BTCUSDT", 40, urgent=True),
        request("ETHUSDT", 5), request("SOLUSDT", 1), request("BTCUSDT", 2), request("BTCUSDT", 3),
    ]  # fmt: skip  # a rank a line
    assert all(refilling.refiller.ask(wanted) for wanted in sorted(in_order, key=lambda wanted: wanted.symbol))
    with refilling.started():
        eventually(lambda: len(refilling.answers) == len(in_order), SOON_S, "all answered")
    assert [wanted for wanted, _ in refilling.answers] == in_order
    assert all([kline.symbol for kline in klines] == [wanted.symbol] for wanted, klines in refilling.answers)
    assert refilling.counted == {"answered": len(in_order)}


def test_what_somebody_looks_at_moves_up(exchange: CannedRest) -> None:
    """Symbols that come first from now on are asked for before others that have waited longer, but no sooner than what is urgent."""
    first = frozenset[str]()
    refilling = Refilling(exchange, first=lambda: first)
    waiting = [
        request("XRPUSDT", 9, urgent=True), request("SOLUSDT", 5), request("SOLUSDT", 6), request("ETHUSDT", 2), request("BTCUSDT", 1),
    ]  # fmt: skip  # the urgent one, then the newest first
    assert all(refilling.refiller.ask(wanted) for wanted in reversed(waiting))
    first = frozenset({"SOLUSDT", "NOTHING"})
    assert refilling.refiller.ask(request("SOLUSDT", 7))
    with refilling.started():
        eventually(lambda: len(refilling.answers) == 6, SOON_S, "all answered")
    in_order = [(wanted.symbol, (wanted.from_ms - START_MS) // 1000) for wanted, _ in refilling.answers]
    assert in_order == [("XRPUSDT", 9), ("SOLUSDT", 5), ("SOLUSDT", 6), ("SOLUSDT", 7), ("BTCUSDT", 1), ("ETHUSDT", 2)]


def test_another_address_is_asked_from_now_on(exchange: CannedRest) -> None:
    """Workers that wait ask where another configuration says, with the next request."""
    refilling = Refilling(exchange)
    with refilling.started() as refiller, canned_rest() as other:
        assert refiller.ask(request(second=1))
        eventually(lambda: len(refilling.answers) == 1, SOON_S, "answered")
        refiller.reconfigure(Config(exchange=ExchangeConfig(rest_url=other.url), producer=ProducerConfig()))
        assert refiller.ask(request(second=2))
        eventually(lambda: len(refilling.answers) == 2, SOON_S, "answered there")
        assert len(exchange.asked) == len(other.asked) == 1


def test_a_request_waits_once(exchange: CannedRest) -> None:
    """Asked for again while it waits, a request is sent once; asked for urgently, it moves up; once answered it may be asked for again."""
    refilling = Refilling(exchange)
    older, newer = request(second=0), request(second=9)
    for wanted in (older, newer, newer, request(second=9, urgent=True), newer):
        assert refilling.refiller.ask(wanted)
    assert refilling.refiller.waiting() == 2
    with refilling.started() as refiller:
        eventually(lambda: len(refilling.answers) == 2, SOON_S, "both answered")
        assert [wanted for wanted, _ in refilling.answers] == [request(second=9, urgent=True), older]
        assert refiller.ask(older)
        eventually(lambda: len(refilling.answers) == 3, SOON_S, "answered again")
    assert len(exchange.asked) == 3


def test_a_request_under_way_is_not_sent_twice(exchange: CannedRest) -> None:
    """Asked for again before its answer came, a request is sent once."""
    answer = threading.Event()
    exchange.answer = lambda query: all_klines(query) if answer.wait(SOON_S) else Answer(status=500)
    refilling = Refilling(exchange, refill_workers=2)
    with refilling.started() as refiller:
        assert refiller.ask(request())
        eventually(lambda: exchange.asked, SOON_S, "sent")
        assert refiller.ask(request())
        assert (refiller.waiting(), refiller.asking()) == (0, 1)
        answer.set()
        eventually(lambda: len(refilling.answers) == 1, SOON_S, "answered")
    assert len(exchange.asked) == 1


def test_a_full_queue(exchange: CannedRest) -> None:
    """A full queue takes no further request, and counts it; one that waits already is no further one."""
    refilling = Refilling(exchange, queue_most=2)
    assert [refilling.refiller.ask(request(second=second)) for second in (1, 2, 3, 2)] == [True, True, False, True]
    assert refilling.counted == {"refused": 1}
    refilling.refiller.withdraw(request(second=1))
    assert refilling.refiller.ask(request(second=3))


def test_withdrawn_requests_are_not_sent(exchange: CannedRest) -> None:
    """A request that was withdrawn while it waited isn't sent, and leaves nothing behind however often that happens."""
    refilling = Refilling(exchange)
    for second in range(1000):
        assert refilling.refiller.ask(request(second=second))
        refilling.refiller.withdraw(request(second=second, urgent=True))
    assert refilling.refiller.waiting() == 0
    assert len(refilling.refiller._ready) < 100
    assert refilling.refiller.ask(request("ETHUSDT"))
    with refilling.started():
        eventually(lambda: refilling.answers, SOON_S, "the other one answered")
    assert [query["symbol"] for query in exchange.asked] == ["ETHUSDT"]


@pytest.mark.parametrize("status", [0, 403, 500, 503])
def test_passing_errors_are_tried_again(exchange: CannedRest, status: int) -> None:
    """What may pass is tried again until it is answered, and each time is counted."""
    exchange.answer = lambda query: Answer(status=status) if len(exchange.asked) < 4 else all_klines(query)
    refilling = Refilling(exchange)
    with refilling.started() as refiller:
        assert refiller.ask(request(seconds=5))
        eventually(lambda: refilling.answers, SOON_S, "answered")
    assert len(refilling.answers[0][1]) == 5
    assert refilling.counted == {"retried": 3, "answered": 1}
    assert not refilling.failed


@pytest.mark.parametrize("asked_anew", [False, True])
def test_a_withdrawn_request_is_not_tried_again(exchange: CannedRest, asked_anew: bool) -> None:
    """Withdrawn while it is under way, a request that goes wrong isn't sent again, unless it was asked for anew."""
    answer = threading.Event()
    exchange.answer = lambda _: Answer(status=503 if answer.wait(SOON_S) and len(exchange.asked) == 1 else 200)
    refilling = Refilling(exchange)
    with refilling.started() as refiller:
        assert refiller.ask(request())
        eventually(lambda: exchange.asked, SOON_S, "sent")
        refiller.withdraw(request())
        if asked_anew:
            assert refiller.ask(request())
        assert refiller.ask(request("ETHUSDT", 1))
        answer.set()
        eventually(lambda: not refiller.waiting() + refiller.asking() and refilling.answers, SOON_S, "nothing left to do")
    symbols = [query["symbol"] for query in exchange.asked]
    assert sorted(symbols) == ["BTCUSDT"] * (1 + asked_anew) + ["ETHUSDT"]


def test_an_exchange_that_is_away_is_left_alone(exchange: CannedRest) -> None:
    """While nothing is answered, the number of attempts doesn't grow with the number of requests that wait."""
    exchange.answer = lambda _: Answer(status=503)
    refilling = Refilling(exchange, backoff_first_s=60.0, backoff_most_s=60.0)
    for second in range(100):
        assert refilling.refiller.ask(request(second=second))
    with refilling.started() as refiller:
        eventually(lambda: refilling.counted["retried"] and not refiller.asking(), SOON_S, "one attempt")
        assert refiller.waiting() == 100
    assert len(exchange.asked) == 1


def test_useless_answers_fail(exchange: CannedRest) -> None:
    """An answer that no second attempt would change goes to `failed`, with the exchange's words, and the next request follows."""
    exchange.answer = lambda q: all_klines(q) if q["symbol"] == "BTCUSDT" else Answer({"code": -1121, "msg": "Invalid symbol."}, 400)
    refilling = Refilling(exchange)
    assert refilling.refiller.ask(request("NOTHING"))
    assert refilling.refiller.ask(request(second=1))
    with refilling.started():
        eventually(lambda: refilling.answers, SOON_S, "answered")
    ((failed, reason),) = refilling.failed
    assert failed == request("NOTHING")
    assert "-1121" in reason
    assert refilling.counted == {"failed": 1, "answered": 1}


def test_the_callback_may_ask_again(exchange: CannedRest) -> None:
    """A second that REST doesn't have yet is missing in its answer; asked for again, it comes."""
    exchange.answer = lambda query: all_klines(query) if len(exchange.asked) > 2 else Answer([])
    refilling = Refilling(exchange)
    refilling.also = lambda wanted: len(refilling.answers) < 3 and refilling.refiller.ask(wanted)
    with refilling.started() as refiller:
        assert refiller.ask(request())
        eventually(lambda: len(refilling.answers) == 3, SOON_S, "asked three times")
    assert [len(klines) for _, klines in refilling.answers] == [0, 0, 1]


def test_errors_of_the_callback_are_told(exchange: CannedRest) -> None:
    """An error that a callback raises is not swallowed."""
    refilling = Refilling(exchange)

    def break_down(_: Request) -> None:
        raise RuntimeError("broken")

    refilling.also = break_down
    with refilling.started() as refiller:
        assert refiller.ask(request())
        assert str(refilling.failures.get(timeout=SOON_S)) == "broken"


def test_it_ends_while_it_waits(exchange: CannedRest) -> None:
    """Waiting for the end of a ban, it stops at once, sends nothing, and takes nothing more."""
    weights = Weights(6000)
    sent = weights.take(1, urgent=True)
    assert sent is not None
    weights.answered(sent, 418, "1", "3600")
    refilling = Refilling(exchange, weights, refill_workers=4)
    assert refilling.refiller.ask(request())
    refilling.refiller.start()
    assert refilling.threads() == 4
    refilling.refiller.stop(SOON_S)
    assert not refilling.threads()
    assert not exchange.asked
    assert not refilling.refiller.ask(request())

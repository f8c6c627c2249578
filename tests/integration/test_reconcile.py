"""What was published beside what a real stand-in says, through a real broker: the thread in the producer, and `klinestream verify feed`."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import orjson
import pytest

from klinestream.market import decimals
from klinestream.market.codec import decode_kline, encode_event, encode_kline
from klinestream.market.events import SECOND_MS, FeedGap, GapState, gap_id
from klinestream.market.reconcile import differences
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.rest import Rest
from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from klinestream.runtime.weights import Weights
from klinestream.stack.java import scripts
from klinestream.standin import payloads
from klinestream.standin.faults import Refuse
from klinestream.standin.frames import Unit
from klinestream.standin.intervals import INTERVALS
from producer.feed import Feed
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.reconcile import Reconcilers
from tests.eventually import eventually
from tests.integration.running_producer import Since, create_topics, empty_topics
from tests.integration.running_standin import RunningStandin, running
from tests.klines import kline
from tests.stack import TestBroker
from tests.topics import kafka, record_of

SOON_S = 15.0
VERIFIED_S = 60
SAMPLES_MOST = 10
# `verify feed` leaves out what is younger than hold_s + 5: so the tests' klines need not be from this very second.
HOLD_S = 25


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def publisher(broker: TestBroker) -> Iterator[Publisher]:
    create_topics(broker)
    empty_topics(broker)
    opened = open_publisher(kafka(broker.bootstrap_servers), "test")
    yield opened
    opened.close(10)


class Fed:
    """A feed that is given the stand-in's klines of seconds gone by, as websocket frames; it may be asked to spoil some of them."""

    def __init__(self, standin: RunningStandin, outlet: Outlet, metrics: Metrics, symbol: str) -> None:
        """Begins ten minutes ago."""
        self.symbol = symbol
        self.samples = 0
        self.spoilt: dict[int, int] = {}
        """Open time → what is added to the base volume."""
        self._market = standin.exchange.market
        self.next_ms = standin.exchange.market_ms() // SECOND_MS * SECOND_MS - 600_000
        self._feed = Feed(
            0,
            outlet,
            metrics,
            hold_s=3.0,
            ask=lambda _request: True,
            withdraw=lambda _request: None,
            now_ms=now_ms,
            now_s=time.monotonic,
        )
        self._feed.follow([symbol], {}, {})

    def publish(self, seconds: int) -> None:
        """Publish the next seconds."""
        to_ms = self.next_ms + seconds * SECOND_MS
        stream = f"{self.symbol.lower()}@kline_1s"
        for candle in self._market.candles(self.symbol, INTERVALS["1s"], self.next_ms, to_ms, to_ms):
            told = replace(candle, base_volume=candle.base_volume + self.spoilt.get(candle.open_time_ms, 0))
            body = payloads.kline_body(self.symbol, "1s", told, Unit.MILLISECOND)
            frame = payloads.kline(self.symbol, body, candle.close_time_ms + 41, Unit.MILLISECOND)
            self._feed.take(b'{"stream":"%b","data":%b}' % (stream.encode(), frame), set())
        self.next_ms = to_ms

    def followed(self) -> list[str]:
        """As the fleet's."""
        return [self.symbol]

    def sample(self, symbol: str) -> None:
        """As the fleet's; what is to be sampled follows at once, ten times."""
        self._feed.sample(symbol)
        if self.samples < SAMPLES_MOST:
            self.publish(20)
            self.samples += 1

    def sampled(self, symbol: str) -> Sequence[bytes]:
        """As the fleet's."""
        return self._feed.sampled(symbol)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def reader(broker: TestBroker) -> Iterator[Reader]:
    opened = open_reader(kafka(broker.bootstrap_servers), "test")
    yield opened
    opened.close()


def of(standin: RunningStandin, publisher: Publisher, symbol: str, kind: type[Fed] = Fed) -> tuple[Fed, Outlet, Metrics]:
    metrics = Metrics()
    outlet = Outlet(publisher, "test", standin.ws, metrics, now_ms)
    return kind(standin, outlet, metrics, symbol), outlet, metrics


@contextmanager
def reconciling(standin: RunningStandin, fed: tuple[Fed, Outlet, Metrics]) -> Iterator[None]:
    """Two threads, of which one has the symbol, ended in the end; nothing must have gone to their failures."""
    failures: SimpleQueue[Exception] = SimpleQueue()
    config = Config(
        exchange=ExchangeConfig(rest_url=standin.http),
        producer=ProducerConfig(reconcile_s=0.2, backoff_first_s=0.05, backoff_most_s=0.2),
    )
    exchange, outlet, metrics = fed
    both = Reconcilers(config, exchange, outlet, metrics, weights=Weights(6000), failures=failures, threads=2, sample_s=0.05, settle_s=0.2)
    both.start()
    try:
        yield
    finally:
        both.stop()
        assert both.ended(SOON_S)
        assert failures.empty()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"klinestream_producer_{name}", labels) or 0.0


def mismatches(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Field and source → how many."""
    [family] = metrics.reconcile_mismatches.collect()
    return {(one.labels["field"], one.labels["against"]): one.value for one in family.samples if one.name.endswith("_total")}


def values(since: Since, topic: str, symbol: str) -> list[bytes]:
    return [record.value or b"" for record in since.of(topic) if record.key == symbol.encode()]


def test_what_is_published_is_compared_as_long_as_it_runs(standin: RunningStandin, publisher: Publisher) -> None:
    """Sample after sample of a clean feed is compared with REST's klines and its trades, without a mismatch, and the age starts anew."""
    fed = of(standin, publisher, "BNBUSDT")
    _, _, metrics = fed
    with reconciling(standin, fed):
        for against in ("klines", "trades"):
            eventually(lambda against=against: value(metrics, "reconciled_klines_total", against=against) >= 60, SOON_S, "three samples")
        assert value(metrics, "reconcile_age_seconds") < SOON_S
    assert mismatches(metrics) == {}
    assert value(metrics, "reconcile_repairs_total") == 0


def test_a_wrong_volume_is_found_and_repaired(standin: RunningStandin, publisher: Publisher, reader: Reader) -> None:
    """A kline published with another volume is counted by field and source, once; REST's goes to the repairs, the ledger stays."""
    since = Since(reader)
    fed = of(standin, publisher, "SOLUSDT")
    exchange, _, metrics = fed
    spoilt_ms = exchange.next_ms + 7000
    exchange.spoilt[spoilt_ms] = 10**8
    with reconciling(standin, fed):
        eventually(lambda: value(metrics, "reconcile_repairs_total"), SOON_S, "the repair")
        eventually(lambda: exchange.samples >= 3, SOON_S, "further samples")
    publisher.flush(SOON_S)
    assert mismatches(metrics) == {("v", "klines"): 1, ("v", "trades"): 1}
    eventually(lambda: values(since, KLINE_REPAIRS.name, "SOLUSDT"), SOON_S, "the repair in its topic")
    [repair] = map(decode_kline, values(since, KLINE_REPAIRS.name, "SOLUSDT"))
    with Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        [truth] = rest.klines("SOLUSDT", spoilt_ms, spoilt_ms + 1000)
    assert repair == truth
    published = {line.open_time_ms: line for line in since.klines()["SOLUSDT"]}
    assert differences(published[spoilt_ms], repair) == ("v",)
    assert values(since, FEED_GAPS.name, "SOLUSDT") == []


def test_an_exchange_that_refuses_is_asked_later(standin: RunningStandin, publisher: Publisher) -> None:
    """While the exchange answers 503 comparisons are put off; afterwards they are made, and nothing was taken for a mismatch."""
    fed = of(standin, publisher, "XRPUSDT")
    _, _, metrics = fed
    standin.client.inject(Refuse(status=503, seconds=60))
    with reconciling(standin, fed):
        eventually(lambda: value(metrics, "reconcile_put_off_total", reason="away") >= 2, SOON_S, "put off")
        assert value(metrics, "reconciled_klines_total", against="klines") == 0
        standin.client.clear()
        eventually(lambda: value(metrics, "reconciled_klines_total", against="trades") >= 20, SOON_S, "compared")
    assert mismatches(metrics) == {}


def test_a_symbol_that_the_exchange_does_not_know_holds_up_no_other(standin: RunningStandin, publisher: Publisher) -> None:
    """An answer that can't be used is counted, and the others are compared all the same."""

    class Two(Fed):
        """And a symbol that was delisted a moment ago."""

        def followed(self) -> list[str]:
            return [self.symbol, "ABSENTUSDT"]

        def sampled(self, symbol: str) -> Sequence[bytes]:
            if symbol == self.symbol:
                return super().sampled(symbol)
            return [encode_kline(kline("ABSENTUSDT"))]

    exchange, outlet, metrics = of(standin, publisher, "BNBUSDT", Two)
    with reconciling(standin, (exchange, outlet, metrics)):
        eventually(lambda: value(metrics, "reconcile_put_off_total", reason="answer") >= 2, SOON_S, "refused twice")
        eventually(lambda: value(metrics, "reconciled_klines_total", against="trades") >= 40, SOON_S, "the other one compared")
    assert mismatches(metrics) == {}


def test_threads_share_the_symbols(standin: RunningStandin, publisher: Publisher) -> None:
    """Each symbol is compared by one thread, and always the same; the threads have some each."""
    names = [f"ABSENT{number}USDT" for number in range(20)]
    seen: dict[str, set[str]] = {name: set() for name in names}

    class Many(Fed):
        """Symbols that nothing is known of."""

        def followed(self) -> list[str]:
            return names

        def sample(self, symbol: str) -> None:
            seen[symbol].add(threading.current_thread().name)

        def sampled(self, symbol: str) -> Sequence[bytes]:
            return [encode_kline(kline(symbol))]

    _, _, metrics = fed = of(standin, publisher, "BNBUSDT", Many)
    with reconciling(standin, fed):
        eventually(lambda: value(metrics, "reconcile_put_off_total", reason="answer") >= 2 * len(names), SOON_S, "each one twice")
    assert all(len(threads) == 1 for threads in seen.values())
    assert len(set.union(*seen.values())) == 2


def verify(folder: Path, broker: TestBroker, standin: RunningStandin, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "KLINESTREAM_EXCHANGE__REST_URL": standin.http,
        "KLINESTREAM_EXCHANGE__SYMBOLS": '["BTCUSDT", "ETHUSDT"]',
        "KLINESTREAM_PRODUCER__HOLD_S": str(HOLD_S),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        [scripts() / "klinestream", "verify", "feed", "--minutes", "1", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fill(standin: RunningStandin, publisher: Publisher, symbol: str, spoilt_s: int | None = None) -> Fed:
    """Publish a symbol's seconds of the last ten minutes, all that have ended; one of them with another volume."""
    exchange, _, _ = of(standin, publisher, symbol)
    if spoilt_s is not None:
        exchange.spoilt = {exchange.next_ms + spoilt_s * SECOND_MS: 10**8}
    exchange.publish((standin.exchange.market_ms() - exchange.next_ms) // SECOND_MS)
    publisher.flush(SOON_S)
    return exchange


def test_a_clean_feed_verifies(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """Every second of every followed symbol is checked against both sources, all are equal, and the exit code is 0."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        fill(standin, publisher, symbol)
    done = verify(tmp_path, broker, standin, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = orjson.loads(done.stdout)
    assert told["checked"] == {"klines": 2 * VERIFIED_S, "trades": 2 * VERIFIED_S}
    assert (told["sound"], told["symbols"], told["klines"]) == (True, 2, 2 * VERIFIED_S)
    assert not told["mismatches"] + told["missing"] + told["mismatches_by_field"]
    assert told["to"] - told["from"] == VERIFIED_S * SECOND_MS


def test_a_wrong_volume_is_told(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """A kline with another volume leads to exit code 1, and the table names its symbol, second, field and both values, for both sources."""
    wrong = fill(standin, publisher, "DOGEUSDT", spoilt_s=540)
    done = verify(tmp_path, broker, standin, "--symbols", "dogeusdt")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line.startswith("│")]
    [spoilt_ms] = wrong.spoilt
    second = datetime.fromtimestamp(spoilt_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert [row[:4] for row in rows] == [["DOGEUSDT", second, "v", "klines"], ["DOGEUSDT", second, "v", "trades"]]
    assert all(decimals.parse(row[4]) - decimals.parse(row[5]) == 10**8 for row in rows)
    for against in ("klines", "trades"):
        assert f"60 checked against the exchange's {against}: mismatches by field: v 1" in done.stdout
    assert done.stdout.splitlines()[-1] == "no second missing"


def test_a_missing_second_needs_the_ledger_s_word(
    tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher
) -> None:
    """Missing seconds that nobody knows of lead to exit code 1; once the ledger says that they were deferred, to 0."""
    to_ms = standin.exchange.market_ms() // SECOND_MS * SECOND_MS - SECOND_MS
    with Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        klines = rest.klines("XRPUSDT", to_ms - 150_000, to_ms)
    span = to_ms - 62_000, to_ms - 60_000
    for there in klines:
        if not span[0] <= there.open_time_ms < span[1]:
            publisher.publish(record_of(there))
    publisher.flush(SOON_S)
    arguments = ("--symbols", "XRPUSDT", "--no-trades", "--json")
    unknown = verify(tmp_path, broker, standin, *arguments)
    assert unknown.returncode == 1, unknown.stdout + unknown.stderr
    assert orjson.loads(unknown.stdout)["missing"] == [{"s": "XRPUSDT", "from": span[0], "to": span[1], "ledger": None}]
    gap = FeedGap(gap_id("XRPUSDT", *span), "XRPUSDT", GapState.DEFERRED, "test", *span, 0, "none", False, None, "", to_ms)
    publisher.publish(Record(FEED_GAPS.name, b"XRPUSDT", encode_event(gap), to_ms))
    publisher.flush(SOON_S)
    known = verify(tmp_path, broker, standin, *arguments)
    assert known.returncode == 0, known.stdout + known.stderr
    told = orjson.loads(known.stdout)
    assert [(one["s"], one["ledger"]) for one in told["missing"]] == [("XRPUSDT", "deferred")]
    assert told["checked"] == {"klines": VERIFIED_S - 2}


def test_what_cannot_be_checked_is_said(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """More klines than fit, a pattern, and a symbol that was never published: a clear line or a report, and exit code 1."""
    assert publisher.queued() == 0
    much = verify(tmp_path, broker, standin, "--minutes", "1440", "--symbols", ",".join(f"S{number}USDT" for number in range(20)))
    pattern = verify(tmp_path, broker, standin, "--symbols", "*USDT")
    absent = verify(tmp_path, broker, standin, "--symbols", "NEVERUSDT")
    assert (much.returncode, pattern.returncode, absent.returncode) == (1, 1, 1)
    assert "klinestream: --symbols, --minutes: expected up to 1,000,000 klines" in much.stderr
    assert pattern.stderr.startswith("klinestream: --symbols: expected names of symbols, got the patterns *USDT")
    assert absent.stdout.splitlines()[-1] == "60 seconds missing: 60 unknown to the ledger"


def test_an_exchange_that_is_away_is_an_error(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """If the exchange bans us that is one clear line, not a report that says that nothing differs."""
    fill(standin, publisher, "BTCUSDT")
    standin.client.inject(Refuse(status=418, seconds=60))
    try:
        done = verify(tmp_path, broker, standin, "--symbols", "BTCUSDT")
    finally:
        standin.client.clear()
    assert (done.returncode, done.stdout) == (1, "")
    assert "klinestream: expected 200 from" in done.stderr
    assert "418" in done.stderr
    assert "Traceback" not in done.stderr

"""`klinestream verify candles`: built candles on a real broker beside a real stand-in's own."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.events import Candle, CandleOrigin, Kline
from klinestream.market.intervals import INTERVALS, opened
from klinestream.market.topics import CANDLES
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from klinestream.runtime.rest import Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stack.java import scripts
from tests.integration.running_standin import RunningStandin, running
from tests.stack import TestBroker
from tests.topics import kafka

SETTLED_MS = 15_000
MINUTE_MS = INTERVALS["1m"]


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def publisher(broker: TestBroker) -> Iterator[Publisher]:
    with TopicAdmin(kafka(broker.bootstrap_servers)) as admin:
        admin.create([CANDLES])
    opened_publisher = open_publisher(kafka(broker.bootstrap_servers), "test")
    yield opened_publisher
    opened_publisher.close(10)


def built(symbol: str, interval: str, klines: list[Kline]) -> Candle:
    """The candle of some klines, added up here."""
    first, last = klines[0], klines[-1]
    return Candle(
        symbol,
        interval,
        first.open_time_ms,
        last.close_time_ms,
        first.open,
        max(kline.high for kline in klines),
        min(kline.low for kline in klines),
        last.close,
        sum(kline.base_volume for kline in klines),
        sum(kline.quote_volume for kline in klines),
        sum(kline.taker_base_volume for kline in klines),
        sum(kline.taker_quote_volume for kline in klines),
        sum(kline.trades for kline in klines),
        None,
        None,
        len(klines),
        True,
        CandleOrigin.BUILT,
    )


def candles(standin: RunningStandin, symbol: str) -> list[Candle]:
    """Two candles of a minute and one of five, from the stand-in's own klines of 1 s."""
    now_ms = time.time_ns() // 1_000_000 - SETTLED_MS
    five_ms = opened(now_ms, INTERVALS["5m"]) - INTERVALS["5m"]
    with Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        klines = rest.klines(symbol, five_ms, five_ms + INTERVALS["5m"])
    minutes = [klines[:60], klines[60:120]]
    return [built(symbol, "5m", klines), *(built(symbol, "1m", minute) for minute in minutes)]


def publish(publisher: Publisher, *told: Candle) -> None:
    for candle in told:
        publisher.publish(Record(CANDLES.name, candle.symbol.encode(), encode_event(candle), candle.close_time_ms))
    publisher.flush(10)


def verify(folder: Path, broker: TestBroker, standin: RunningStandin, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "KLINESTREAM_EXCHANGE__REST_URL": standin.http,
        "PATH": "/usr/bin:/bin",
    }
    command = [scripts() / "klinestream", "verify", "candles", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_true_candles_verify(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """Candles added up from 1 s klines are the exchange's own to the last digit; the exchange's own and incomplete ones are left out."""
    five, first, second = candles(standin, "BTCUSDT")
    no_candle = replace(first, open=1, low=1)
    publish(publisher, five, first, first, second, replace(no_candle, origin=CandleOrigin.HISTORY), replace(no_candle, complete=False))
    done = verify(tmp_path, broker, standin, "--symbols", "btcusdt", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = orjson.loads(done.stdout)
    assert (told["sound"], told["checked"], told["incomplete"], told["mismatches"]) == (True, {"1m": 2, "5m": 1}, 1, [])
    minutes = verify(tmp_path, broker, standin, "--symbols", "BTCUSDT", "--interval", "1m", "--since", "1h")
    assert minutes.returncode == 0
    assert minutes.stdout.splitlines()[-1] == "2 of 1m checked against the exchange's: all equal"


def test_each_field_counts(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """Whichever field differs by the least, it is told with both values and leads to exit code 1; too few klines do so too."""
    _, first, second = candles(standin, "ETHUSDT")
    fields = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume", "trades", "klines")
    for name in fields:
        publish(publisher, replace(first, **{name: getattr(first, name) + 1}))  # type: ignore[arg-type]  # numbers all
    publish(publisher, second)
    done = verify(tmp_path, broker, standin, "--symbols", "ETHUSDT", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    told = orjson.loads(done.stdout)
    assert told["mismatches_by_field"] == dict.fromkeys(("o", "h", "l", "c", "v", "q", "V", "Q", "n", "klines"), 1)
    assert {one["t"] for one in told["mismatches"]} == {first.open_time_ms}
    table = verify(tmp_path, broker, standin, "--symbols", "ETHUSDT")
    assert table.returncode == 1
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.stdout.splitlines() if line.startswith("│")]
    assert ["ETHUSDT", "1m", "klines", "61", "60"] in [[row[0], row[1], *row[3:]] for row in rows]


def test_what_cannot_be_checked_is_said(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """A candle that the exchange doesn't have, no candle at all, and a wrong interval: each is said, and exit code 1."""
    later = candles(standin, "BTCUSDT")[1]
    publish(publisher, replace(later, symbol="ABSENTUSDT"))
    absent = verify(tmp_path, broker, standin, "--symbols", "ABSENTUSDT")
    assert absent.returncode == 1
    assert "ABSENTUSDT 1m: not all checked" in absent.stdout
    none = verify(tmp_path, broker, standin, "--symbols", "SOLUSDT")
    assert none.returncode == 1
    assert "no built candle to check" in none.stdout
    wrong = verify(tmp_path, broker, standin, "--interval", "2m")
    assert wrong.returncode == 1
    assert "--interval: expected one of 1m" in wrong.stderr

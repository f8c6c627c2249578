"""A market of candles on a real broker that goes on by itself: hours of history, then each second's klines as they end."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleStep
from klinestream.market.candle_lines import provisional_lines
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import PROVISIONAL_CANDLES
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.studies import candle_settings
from tests.candles import lines_of
from tests.klines import kline

_UNIT = 10**8
_NOISE = 6e-5


class LiveCandles:
    """One symbol's candles, indicators and signals, as the candles job makes them."""

    def __init__(self, bootstrap_servers: str, symbol: str, settings: Config, *, price: float = 60_000.0) -> None:
        """Connect; `settings` say which indicators there are."""
        self._symbol = symbol
        self._engine = CandleEngine(candle_settings(settings))
        self._publisher = open_publisher(KafkaConfig(bootstrap_servers=bootstrap_servers, client="confluent-kafka"), "test-candles")
        self._random = random.Random(symbol)
        self._price = price
        self._trend = 0.0

    @contextmanager
    def running(self, history_s: int) -> Iterator[None]:
        """Publish history up to now, then each second as it ends, until the block ends."""
        done_s = int(time.time())
        self._publish(self._klines(range(done_s - history_s, done_s)), provisional=1)
        stop = threading.Event()

        def go_on() -> None:
            nonlocal done_s
            while not stop.wait(max(0.0, done_s + 1.05 - time.time())):
                now_s = int(time.time())
                self._publish(self._klines(range(done_s, now_s)), provisional=1)
                done_s = max(done_s, now_s)

        thread = threading.Thread(target=go_on, name="candles")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._publisher.close(5)

    def _publish(self, klines: Sequence[Kline], *, provisional: int) -> None:
        if not klines:
            return
        step = self._engine.step(from_klines(list(klines)))
        for topic, lines in lines_of(self._engine, step).items():
            self._send(topic, lines)
        self._send(PROVISIONAL_CANDLES.name, self._in_progress(step, provisional))
        self._publisher.flush(20)

    def _in_progress(self, step: CandleStep, newest: int) -> list[str]:
        found: list[str] = []
        for rows in step.provisional[-newest:]:
            found += provisional_lines(self._engine.symbols(rows.columns), tuple(INTERVALS), rows)
        return found

    def _send(self, topic: str, lines: Sequence[str]) -> None:
        for line in lines:
            key, timestamp_ms, value = line.split("\t")
            self._publisher.publish(Record(topic, key.encode(), value.encode(), int(timestamp_ms)))

    def _klines(self, seconds: range) -> list[Kline]:
        return [self._kline(second) for second in seconds]

    def _kline(self, second: int) -> Kline:
        opened = self._price
        self._trend = 0.995 * self._trend + self._random.gauss(0, _NOISE / 100)
        self._price *= 1 + self._trend + self._random.gauss(0, _NOISE)
        low, high = sorted((opened, self._price))
        volume = round(_UNIT * self._random.expovariate(2) * (1 + 4e4 * abs(self._price / opened - 1)))
        return kline(
            self._symbol,
            price=round(self._price * _UNIT),
            open=round(opened * _UNIT),
            high=round(high * (1 + _NOISE / 4) * _UNIT),
            low=round(low * (1 - _NOISE / 4) * _UNIT),
            open_time_ms=second * SECOND_MS,
            close_time_ms=second * SECOND_MS + SECOND_MS - 1,
            base_volume=volume,
            quote_volume=round(volume * self._price),
        )

"""Candles, indicators and signals as the engine makes them of a short market, published for a server's REST interface."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine
from klinestream.market.candle_lines import provisional_lines
from klinestream.market.codec import encode_event
from klinestream.market.events import SECOND_MS, FeedGap, GapState, Kline, gap_id
from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import FEED_GAPS, PROVISIONAL_CANDLES
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.studies import candle_settings
from tests.candles import Identity, keep, lines_of
from tests.klines import kline
from tests.topics import publish

SYMBOLS = ("BTCUSDT", "ETHBTC")
QUARTER_MS = INTERVALS["15m"]
REST_S = 25
"""Seconds of the candle in progress."""


@dataclass(frozen=True)
class Market:
    """What was published: the seconds of each symbol, and the records by their identity."""

    start_ms: int
    klines: dict[str, list[Kline]]
    records: dict[Identity, bytes]


def published(bootstrap_servers: str, settings: Config, symbols: Sequence[str] = SYMBOLS) -> Market:
    """Publish an hour and more, from a whole quarter to some seconds after the newest whole minute, as the candles job would; and a gap."""
    now_ms = time.time_ns() // 1_000_000
    end_ms = (now_ms - REST_S * SECOND_MS) // 60_000 * 60_000 + REST_S * SECOND_MS
    start_ms = end_ms // QUARTER_MS * QUARTER_MS - 4 * QUARTER_MS
    klines = {symbol: list(_series(symbol, number, start_ms, end_ms)) for number, symbol in enumerate(symbols)}
    engine = CandleEngine(candle_settings(settings))
    *before, last = zip(*klines.values(), strict=True)
    found: dict[Identity, bytes] = {}
    records = []
    step = engine.step(from_klines([each for second in before for each in second]))
    newest = engine.step(from_klines(last))
    assert not newest.closed
    for topic, lines in lines_of(engine, step).items():
        for line in lines:
            key, timestamp_ms, value = line.split("\t")
            keep(found, topic, value.encode())
            records.append(Record(topic, key.encode(), value.encode(), int(timestamp_ms)))
    # Of the candles in progress the newest count: the last seconds will do, the very last one read last.
    for rows in (*step.provisional[-3:], *newest.provisional):
        for line in provisional_lines(engine.symbols(rows.columns), tuple(INTERVALS), rows):
            key, timestamp_ms, value = line.split("\t")
            records.append(Record(PROVISIONAL_CANDLES.name, key.encode(), value.encode(), int(timestamp_ms)))
    publish(bootstrap_servers, [*records, _gap(symbols[0], start_ms)])
    return Market(start_ms, klines, found)


def _series(symbol: str, number: int, start_ms: int, end_ms: int) -> Iterable[Kline]:
    for second in range((end_ms - start_ms) // SECOND_MS):
        price = 10**8 * (500 + (7 * second // 60 + 13 * number) % 29) + 10**6 * (second * second % 97)
        opened = start_ms + second * SECOND_MS
        volume = 10**7 * ((second + number) % 17)
        yield kline(
            symbol,
            price=price,
            high=price + 10**6,
            low=price - 10**5,
            open_time_ms=opened,
            close_time_ms=opened + SECOND_MS - 1,
            base_volume=volume,
            quote_volume=volume * 500,
            taker_base_volume=volume // 3,
            taker_quote_volume=volume * 500 // 3,
        )


def _gap(symbol: str, start_ms: int) -> Record:
    begin, end = start_ms - 10_000, start_ms - 7000
    gap = FeedGap(gap_id(symbol, begin, end), symbol, GapState.REFILLED, "producer-1", begin, end, 3, "rest", True, 3, "", start_ms - 6000)
    return Record(FEED_GAPS.name, symbol.encode(), encode_event(gap), gap.time_ms)

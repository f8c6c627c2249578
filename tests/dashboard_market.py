"""A small market of the last 26 hours as records of all topics that dashboards show: the engine's own, of candles that rise and fall.

1m, from REST  |26 h ago ················|minute|          longer candles are sums of these
1 s klines                                |·····| now      windows, and the last candles, are built of these
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.codec import encode_event
from klinestream.market.decimals import UNIT, show
from klinestream.market.events import SECOND_MS, FeedGap, GapState, HistoryReason, Kline, PipelineEvent, Side, Signal, SignalState, gap_id
from klinestream.market.intervals import HOUR_MS, INTERVALS, MINUTE_MS
from klinestream.market.signals import EMA_CROSS, MACD_CROSS, RSI, SignalSettings
from klinestream.market.topics import FEED_GAPS, PIPELINE_EVENTS, SIGNALS, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from tests.candles import lines_of
from tests.klines import kline

HOURS = 26
LIVE_S = 240
"""Klines of these many seconds: enough for the RSI of windows to converge."""
YOUNG = "NEWUSDT"
SYMBOLS = {"BTCUSDT": 60_000, "ETHUSDT": 3_000, YOUNG: 2}
"""Symbol → about what it costs; the young one is three hours old."""
_SETTINGS = CandleSettings(
    intervals=("1m", "5m", "1h"),
    provisional=False,
    history=HOURS * 60,
    signals=SignalSettings(rules=(RSI, MACD_CROSS, EMA_CROSS), rsi_low=40.0, rsi_high=60.0),
)
Row = list[object]
Records = dict[str, list[dict[str, object]]]
"""Topic → its records."""


@dataclass(frozen=True)
class Market:
    """What the topics hold when `now_ms` is now, and the rows and klines that it was made of."""

    now_ms: int
    rows: dict[str, list[Row]]
    klines: list[Kline]
    gaps: list[FeedGap]
    records: Records


def market(now_ms: int) -> Market:
    """A market up to some seconds before now."""
    live_ms = (now_ms - LIVE_S * SECOND_MS) // MINUTE_MS * MINUTE_MS
    rows = {symbol: _minutes(symbol, live_ms) for symbol in SYMBOLS}
    seconds = range((now_ms - live_ms) // SECOND_MS)
    klines = [_kline(symbol, live_ms + second * SECOND_MS) for second in seconds for symbol in SYMBOLS]
    engine = CandleEngine(_SETTINGS)
    records: Records = {}
    tables = [
        HistoryTable(symbol, interval, HistoryReason.START, table_of(whole, INTERVALS[interval]), 1)
        for symbol, minutes in rows.items()
        for interval in _SETTINGS.ascending
        if (whole := longer(minutes, INTERVALS[interval]))
    ]
    for step in (engine.take(tables), engine.step(from_klines(klines))):
        for topic, lines in lines_of(engine, step).items():
            records.setdefault(topic, []).extend(orjson.loads(line.split("\t")[2]) for line in lines)
    for windows in WindowEngine(WindowSettings()).step(from_klines(klines)).windows:
        records.setdefault(WINDOWS.name, []).extend(orjson.loads(encode_event(window)) for window in windows.events())
    gaps = _gaps(now_ms)
    records[FEED_GAPS.name] = [orjson.loads(encode_event(gap)) for gap in gaps]
    records[PIPELINE_EVENTS.name] = [orjson.loads(encode_event(event)) for event in _events(now_ms)]
    records[SIGNALS.name].append(orjson.loads(encode_event(_withdrawn(now_ms))))
    return Market(now_ms, rows, klines, gaps, records)


def longer(minutes: Sequence[Row], length_ms: int) -> list[Row]:
    """Whole candles of another length, as plain sums of minutes."""
    by_candle: dict[int, list[Row]] = {}
    for row in minutes:
        by_candle.setdefault(int(str(row[0])) // length_ms * length_ms, []).append(row)
    return [_sum(opened, part, length_ms) for opened, part in by_candle.items() if len(part) == length_ms // MINUTE_MS]


def _sum(opened: int, part: Sequence[Row], length_ms: int) -> Row:
    def summed(place: int) -> str:
        return show(sum(_units(row[place]) for row in part))

    high = max(part, key=lambda row: _units(row[2]))[2]
    low = min(part, key=lambda row: _units(row[3]))[3]
    trades = sum(int(str(row[8])) for row in part)
    return [opened, part[0][1], high, low, part[-1][4], summed(5), opened + length_ms - 1, summed(7), trades, summed(9), summed(10)]


def _units(text: object) -> int:
    whole, _, rest = str(text).partition(".")
    return int(whole) * UNIT + int(rest.ljust(8, "0"))


def _price(symbol: str, time_ms: int) -> int:
    """In units of 1e-8, moving by minutes and within them."""
    minute = time_ms / MINUTE_MS
    wave = 0.01 * math.sin(minute / 47) + 0.004 * math.sin(minute / 6.3) + 0.001 * math.sin(minute * 1.7 + len(symbol))
    return round(SYMBOLS[symbol] * 10_000 * (1 + wave)) * (UNIT // 10_000)


def _minutes(symbol: str, until_ms: int) -> list[Row]:
    hours = 3 if symbol == YOUNG else HOURS
    found: list[Row] = []
    for opened in range(until_ms - hours * HOUR_MS, until_ms, MINUTE_MS):
        prices = [_price(symbol, opened + second * SECOND_MS) for second in (0, 20, 40, 59)]
        volume = UNIT * (3 + opened // MINUTE_MS % 7)
        ohlc = map(show, (prices[0], max(prices), min(prices), prices[-1]))
        volumes = (
            show(volume),
            opened + MINUTE_MS - 1,
            show(volume * SYMBOLS[symbol]),
            5,
            show(volume // 4),
            show(volume // 4 * SYMBOLS[symbol]),
        )
        found.append([opened, *ohlc, *volumes])
    return found


def _kline(symbol: str, opened: int) -> Kline:
    volume = UNIT * (1 + opened // SECOND_MS % 3)
    return kline(symbol, price=_price(symbol, opened), open_time_ms=opened, close_time_ms=opened + 999, base_volume=volume)


def _gaps(now_ms: int) -> list[FeedGap]:
    """One of each fate, one that two producers saw, and one that the second found settled."""
    stories: list[tuple[str, int, list[tuple[str, GapState, int]]]] = [
        ("BTCUSDT", 50, [("one", GapState.DETECTED, 0)]),
        ("BTCUSDT", 40, [("one", GapState.DETECTED, 0), ("one", GapState.DEFERRED, 2), ("two", GapState.DETECTED, 1)]),
        ("ETHUSDT", 30, [("one", GapState.DETECTED, 0), ("one", GapState.REFILLED, 9)]),
        ("ETHUSDT", 25, [("one", GapState.DEFERRED, 3), ("one", GapState.REPAIRED, 9), ("two", GapState.UNFILLABLE, 0)]),
        ("ETHUSDT", 20, [("one", GapState.DEFERRED, 3), ("one", GapState.UNFILLABLE, 3)]),
        ("ETHUSDT", 15, [("one", GapState.REPAIRED, 9), ("two", GapState.REPAIRED, 0)]),
    ]
    found = []
    for symbol, minutes, story in stories:
        since = now_ms // SECOND_MS * SECOND_MS - minutes * MINUTE_MS
        until = since + 9 * SECOND_MS
        for place, (producer, state, klines) in enumerate(story):
            told = (klines, "rest" if klines else "none", False, None, f"told by {producer}", until + place * 500)
            found.append(FeedGap(gap_id(symbol, since, until), symbol, state, producer, since, until, *told))
    return found


def _events(now_ms: int) -> list[PipelineEvent]:
    return [
        PipelineEvent("producer", event, now_ms - age * MINUTE_MS, f"{event} {age} minutes ago")
        for event, age in (("started", 55), ("lagging", 5))
    ]


def _withdrawn(now_ms: int) -> Signal:
    opened = now_ms // HOUR_MS * HOUR_MS - 2 * HOUR_MS
    return Signal(
        id=f"BTCUSDT:1h:rsi:buy:{opened}",
        symbol="BTCUSDT",
        interval="1h",
        open_time_ms=opened,
        close_time_ms=opened + HOUR_MS - 1,
        side=Side.BUY,
        rule=RSI,
        state=SignalState.WITHDRAWN,
        price=60_000.0,
        value=29.5,
        limit=30.0,
        reason="a repair removed its ground",
        since_ms=opened - HOUR_MS,
        revision=7,
    )

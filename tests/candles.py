"""Candles as tests see them: plain sums to compare with, and the records of a run by what identifies them."""

from collections.abc import Sequence

import orjson

from klinestream.market.candle_engine import CandleEngine, CandleStep
from klinestream.market.candle_lines import aggregate_lines, built_lines, history_lines, indicator_lines, signal_lines, signals_of
from klinestream.market.decimals import show
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.topics import AGGREGATES, CANDLES, INDICATORS, SIGNALS

Identity = tuple[object, ...]
"""Topic, symbol, interval, open time, since, rule, side, revision."""
_NAMES = ("s", "i", "t", "since", "rule", "side", "revision")


def rows(klines: Sequence[Kline], length_ms: int) -> list[list[object]]:
    """Candles as the exchange gives them, from all their seconds: few plain lines, apart from the engine's."""
    by_candle: dict[int, list[Kline]] = {}
    for each in klines:
        by_candle.setdefault(each.open_time_ms // length_ms * length_ms, []).append(each)

    def row(opened: int, part: list[Kline]) -> list[object]:
        def total(name: str) -> str:
            return show(sum(getattr(k, name) for k in part))

        prices = (part[0].open, max(k.high for k in part), min(k.low for k in part), part[-1].close)
        volumes = total("quote_volume"), sum(k.trades for k in part), total("taker_base_volume"), total("taker_quote_volume")
        return [opened, *map(show, prices), total("base_volume"), opened + length_ms - 1, *volumes]

    return [row(opened, part) for opened, part in by_candle.items() if len(part) == length_ms // SECOND_MS]


def lines_of(engine: CandleEngine, step: CandleStep) -> dict[str, list[str]]:
    """Topic → lines, of all that has an identity."""
    return {
        CANDLES.name: [*built_lines(step, engine.symbols), *history_lines(step)],
        INDICATORS.name: [line for each in step.studies for line in indicator_lines(each)],
        AGGREGATES.name: [line for each in step.aggregates for line in aggregate_lines(each)],
        SIGNALS.name: signal_lines(signal for each in step.studies for signal in signals_of(each)),
    }


def keep(records: dict[Identity, bytes], topic: str, value: bytes) -> None:
    """Put a record in. Fails where its identity has another value."""
    record = orjson.loads(value)
    identity = (topic, *(record.get(name) for name in _NAMES))
    held = records.setdefault(identity, value)
    assert held == value, f"expected one value an identity, got two: {held!r} and {value!r}"


def best(records: dict[Identity, bytes], topic: str) -> dict[Identity, bytes]:
    """Of each symbol, interval and time the record of a topic that counts: highest revision, then earliest since."""
    found: dict[Identity, tuple[tuple[int, int], bytes]] = {}
    for (of, symbol, interval, opened, since, rule, side, revision), value in records.items():
        if of == topic:
            rank = (-int(str(revision)), int(str(since or 0)))
            key = (symbol, interval, opened, rule, side)
            found[key] = min(found.get(key, (rank, value)), (rank, value))
    return {key: value for key, (_, value) in found.items()}

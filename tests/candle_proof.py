"""The proof of the candles: each that counts is the exchange's own, none is missing, and all that follows from them is a replay's."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine
from klinestream.market.candle_history import HistoryTable, decode_history
from klinestream.market.events import Kline
from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import AGGREGATES, CANDLE_HISTORY, CANDLES, INDICATORS, SIGNALS
from klinestream.runtime.rest import PassingError, Rest
from klinestream.runtime.studies import candle_settings
from klinestream.runtime.weights import Weights
from tests.candles import Identity, best, keep, lines_of
from tests.eventually import eventually
from tests.topics import Topic
from tests.whole_stack import TestStack

_WITHIN_S = 120
_ASK_S = 180
_REPLAYED = (INDICATORS, SIGNALS, AGGREGATES)
_ROW = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")


def prove_candles(stack: TestStack, klines: Sequence[Kline]) -> int:
    """Check what the candles job made of these klines, all that the feed holds, and of the history; how many candles that count.

    Raises AssertionError.
    """
    topics = {topic.name: Topic(stack.bootstrap_servers, topic.name) for topic in (CANDLES, *_REPLAYED)}
    history = Topic(stack.bootstrap_servers, CANDLE_HISTORY.name)
    found: dict[Identity, bytes] = {}
    seen = dict.fromkeys(topics, 0)

    def settled() -> tuple[int]:
        for name, topic in topics.items():
            for record in topic.read()[seen[name] :]:
                keep(found, name, record.value or b"")
            seen[name] = len(topic.records)
        right = _replayed(stack, history, klines)
        missing = [identity for identity in right if identity not in found]
        assert not missing, f"{len(missing)} records of a replay are not there, such as {missing[:3]}"
        wrong = [(found[identity], value) for identity, value in right.items() if found[identity] != value]
        assert not wrong, f"a replay gives other bits: {wrong[:2]}"
        return (_as_the_exchange_has_them(stack, best(found, CANDLES.name)),)

    (counted,) = eventually(settled, _WITHIN_S, "all that a replay of the topics gives is there")
    for topic in (*topics.values(), history):
        topic.close()
    return counted


def _replayed(stack: TestStack, history: Topic, klines: Sequence[Kline]) -> dict[Identity, bytes]:
    """What the engine makes of the topics in one go, by identity."""
    engine = CandleEngine(candle_settings(stack.config))
    tables: list[HistoryTable] = [decode_history(record.value or b"", record.offset) for record in history.read()]
    right: dict[Identity, bytes] = {}
    for step in (engine.take(tables), engine.step(from_klines(klines))):
        for topic, lines in lines_of(engine, step).items():
            for line in lines:
                if topic != CANDLES.name:
                    keep(right, topic, line.split("\t")[2].encode())
    return right


def _as_the_exchange_has_them(stack: TestStack, candles: dict[Identity, bytes]) -> int:
    """Each candle that counts, field by field; and no series has a hole."""
    series: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for value in candles.values():
        record = orjson.loads(value)
        series[record["s"], record["i"]][record["t"]] = record
    # Hundreds of symbols take more than what the exchange allows in a minute, with what the producer asks besides.
    asking = Retrying(retry=retry_if_exception_type(PassingError), wait=wait_fixed(1), stop=stop_after_delay(_ASK_S), reraise=True)
    with Rest(stack.config.exchange, Weights(stack.config.exchange.weight_per_minute)) as rest:
        for (symbol, interval), mine in series.items():
            times = sorted(mine)
            assert times == list(range(times[0], times[-1] + 1, INTERVALS[interval])), f"a hole among the {interval} of {symbol}"
            span = times[0], times[-1] + INTERVALS[interval]
            exchange = {row[0]: row for row in asking(rest.candles, symbol, interval, *span)}
            assert exchange.keys() == mine.keys()
            for opened, record in mine.items():
                assert [record[name] for name in _ROW] == list(exchange[opened][: len(_ROW)])
                assert record["complete"]
    return len(candles)

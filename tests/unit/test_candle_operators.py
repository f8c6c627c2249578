"""The candles job's operator without Flink: history in line gets its turn, whatever became of the timers."""

import pickle
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.candle_operators import SERIES_AT_ONCE, SLICE, Candles, ParsedHistory
from jobs.operators import Parsed
from klinestream.market.batch import from_klines
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.events import SECOND_MS, HistoryReason
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import CANDLES
from klinestream.runtime.config import Config
from klinestream.runtime.studies import candle_settings
from tests.candles import rows
from tests.klines import kline

SHARD = 3
START_MS = 1_790_000_000_000 // MINUTE_MS * MINUTE_MS
MINUTES = 2 * SLICE + 1


class Value:
    """A Flink value state."""

    def __init__(self) -> None:
        self.held: Any = None

    def value(self) -> Any:
        return self.held

    def update(self, value: Any) -> None:
        self.held = value


class Map(dict[Any, Any]):
    """A Flink map state, which counts what is read of it."""

    reads = 0

    def get(self, key: Any) -> Any:  # type: ignore[override]  # as Flink's, without a default
        self.reads += 1
        return super().get(key)

    def items(self) -> Any:
        self.reads += len(self)
        return super().items()

    def put(self, key: Any, value: Any) -> None:
        self[key] = value

    def remove(self, key: Any) -> None:
        del self[key]


class Task:
    """The operator as Flink runs it: state that stays, and timers that may get lost."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.timers: list[int] = []
        self.now_ms = START_MS
        self.start()

    def start(self) -> None:
        """From the state that there is."""
        group = SimpleNamespace(counter=lambda _: SimpleNamespace(inc=lambda _: None))
        group.add_group = lambda _: group
        self.operator = Candles(candle_settings(Config()))
        self.operator.open(
            SimpleNamespace(
                get_state=lambda of: self.states.setdefault(of.name, Value()),
                get_map_state=lambda of: self.states.setdefault(of.name, Map()),
                get_metrics_group=lambda: group,
            )
        )

    @property
    def context(self) -> Any:
        timers = SimpleNamespace(current_processing_time=lambda: self.now_ms, register_processing_time_timer=self.timers.append)
        return SimpleNamespace(timer_service=lambda: timers, get_current_key=lambda: SHARD)

    def kline(self, second: int) -> None:
        batch = from_klines(
            [kline("BTCUSDT", open_time_ms=START_MS + second * SECOND_MS, close_time_ms=START_MS + second * SECOND_MS + 999)]
        )
        list(self.operator.process_element1((SHARD, Parsed(batch, np.array([second]), [], second, second)), self.context))

    def history(self, symbols: Sequence[str] = ("BTCUSDT",)) -> None:
        """A record each of so many candles of a minute."""
        seconds = range(START_MS - MINUTES * MINUTE_MS, START_MS, SECOND_MS)
        found = rows([kline("BTCUSDT", open_time_ms=ms, close_time_ms=ms + 999) for ms in seconds], MINUTE_MS)
        table = table_of(found, MINUTE_MS)
        tables = [HistoryTable(symbol, "1m", HistoryReason.START, table, number + 1) for number, symbol in enumerate(symbols)]
        list(self.operator.process_element2((SHARD, ParsedHistory(tables, [], 0, len(symbols) - 1)), self.context))

    def fire(self) -> int:
        """Let the first timer fire; returns how many candles came."""
        self.now_ms = self.timers.pop(0)
        return self.candles(self.operator.on_timer(self.now_ms, self.context))

    @staticmethod
    def candles(blocks: Iterator[Any]) -> int:
        return sum(len(block[2].splitlines()) for block in blocks if block[0] == CANDLES.name)


@pytest.fixture(scope="module")
def told() -> list[int]:
    """How many candles each turn of the whole record gives."""
    task = Task()
    task.history()
    found = [task.fire() for _ in range(3)]
    assert task.timers == []
    return found


def test_turns_follow_each_other_until_nothing_waits(told: list[int]) -> None:
    assert told == [SLICE, SLICE, 1]


def test_what_waits_is_woken_after_a_timer_was_lost(told: list[int]) -> None:
    """A job that is restored without its timer takes the next turn all the same, once klines come."""
    task = Task()
    task.history()
    assert task.fire() == told[0]
    task.timers.clear()
    task.start()
    task.kline(0)
    task.kline(1)
    assert len(task.timers) == 1
    assert [task.fire(), task.fire()] == told[1:]
    assert task.timers == []


def test_what_waits_stands_in_the_state_alone() -> None:
    """Memory holds its keys, after a start too, and each turn reads what it takes: the topic may be far larger than the memory."""
    task = Task()
    symbols = [f"S{number}USDT" for number in range(SERIES_AT_ONCE + 6)]
    task.history(symbols)
    backlog = task.states["backlog"]
    task.timers.clear()
    task.start()
    task.kline(0)
    assert len(backlog) == 3 * len(symbols)
    assert backlog.reads == 0
    assert len(pickle.dumps(task.operator.lines[SHARD])) < 200 * len(backlog)
    assert task.fire() == SLICE * SERIES_AT_ONCE
    assert backlog.reads == SERIES_AT_ONCE
    while task.timers:
        task.fire()
    assert (len(backlog), backlog.reads) == (0, 3 * len(symbols))


def test_a_timer_that_comes_after_all_makes_no_second_line_of_turns(told: list[int]) -> None:
    """Restored with its timer, which fires after klines have set another: one of them counts."""
    task = Task()
    task.history()
    task.fire()
    [before] = task.timers
    task.start()
    task.now_ms += 300
    task.kline(0)
    assert task.timers == [before, before + 300]
    taken = []
    while task.timers:
        taken.append(task.fire())
    assert [count for count in taken if count] == told[1:]

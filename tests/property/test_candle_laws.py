"""The laws of the candles' engine: how klines and history are split and mixed, and where klines were lost, changes no value."""

import pickle
import random
from collections.abc import Iterable, Sequence
from functools import cache

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings, CandleState, CandleStep
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.errors import EngineError
from klinestream.market.events import SECOND_MS, HistoryReason, Kline
from klinestream.market.indicators.catalogue import IndicatorSettings
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.signals import SignalSettings
from klinestream.market.topics import AGGREGATES, CANDLES, INDICATORS, SIGNALS
from tests.candles import Identity, best, keep, lines_of, rows
from tests.klines import START_MS, kline

CHOSEN = CandleSettings(
    ("1m", "5m"),
    provisional=False,
    indicators=IndicatorSettings(
        sma=(3,), ema=(4,), rsi=(3,), macd=((2, 4, 3),), bollinger=(), atr=(3,), vwap=(2,), stochastic=(), volatility=(3,)
    ),
    signals=SignalSettings(("rsi",), rsi_period=3, rsi_low=45.0, rsi_high=55.0),
)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
OPENED_MS = START_MS - START_MS % (5 * MINUTE_MS)
PAST, LIVE = 120, 9  # minutes: before the feed, of the feed
Piece = Sequence[Kline] | HistoryTable


@cache
def truth(symbol: str) -> tuple[Kline, ...]:
    """All seconds of a symbol, from PAST minutes before the feed to its end."""
    dice = random.Random(symbol)
    price = 100 * 10**8
    klines = []
    for second in range(-PAST * 60, LIVE * 60):
        price += dice.randint(-(10**6), 10**6)
        opened = OPENED_MS + second * SECOND_MS
        klines.append(
            kline(
                symbol,
                price=price,
                open_time_ms=opened,
                close_time_ms=opened + 999,
                base_volume=dice.randint(0, 10**10),
                quote_volume=10**9,
            )
        )
    return tuple(klines)


@cache
def history(symbol: str, interval: str, places: range, revision: int, reason: HistoryReason) -> HistoryTable:
    """Some of the exchange's candles; the one at place 0 opens with the feed."""
    length_ms = INTERVALS[interval]
    begin, end = (OPENED_MS + place * length_ms for place in (places.start, places.stop))
    chosen = [row for row in rows(truth(symbol), length_ms) if begin <= int(str(row[0])) < end]
    return HistoryTable(symbol, interval, reason, table_of(chosen, length_ms), revision)


class Run:
    """An engine, and the lines that it gave by what identifies them."""

    def __init__(self) -> None:
        self.saved = CandleState()
        self.engine = CandleEngine(CHOSEN, self.saved)
        self.records: dict[Identity, bytes] = {}

    def take(self, pieces: Iterable[Piece]) -> "Run":
        for piece in pieces:
            self._keep(self.engine.take([piece]) if isinstance(piece, HistoryTable) else self.engine.step(from_klines(piece)))
        return self

    def restart(self) -> "Run":
        """Go on from what was saved."""
        self.saved = pickle.loads(pickle.dumps(self.saved))  # noqa: S301  # our own bytes
        self.engine = CandleEngine(CHOSEN, self.saved)
        return self

    def _save(self) -> None:
        """As the job saves after each batch: only what has changed."""
        self.saved.names, self.saved.minutes, self.saved.longer = self.engine.names, self.engine.builder.minutes, self.engine.builder.longer
        for interval, chain in self.engine.chains.items():
            kept = self.saved.chains.setdefault(interval, {})
            for column, part in pickle.loads(pickle.dumps(chain.changes())).items():  # noqa: S301
                kept.pop(column, None)
                if part is not None:
                    kept[column] = part

    def _keep(self, step: CandleStep) -> None:
        self._save()
        for kind, lines in lines_of(self.engine, step).items():
            for line in lines:
                keep(self.records, kind, line.split("\t")[2].encode())

    def best(self, kind: str) -> dict[Identity, bytes]:
        return best(self.records, kind)


def wanted(symbol: str, lost: Sequence[tuple[int, int]]) -> list[HistoryTable]:
    """What the producer fetches: history before the feed, and each candle that a lost span touches."""
    pieces = []
    for number, (interval, length_ms) in enumerate((name, INTERVALS[name]) for name in CHOSEN.intervals):
        past = PAST * MINUTE_MS // length_ms
        pieces.append(history(symbol, interval, range(-past, 0), 1 + number, HistoryReason.START))
        for place, (begin, end) in enumerate(lost):
            first, last = begin * SECOND_MS // length_ms, (end - 1) * SECOND_MS // length_ms
            last = min(last, LIVE * MINUTE_MS // length_ms - 1)
            if first <= last:
                pieces.append(history(symbol, interval, range(first, last + 1), 10 + 2 * place + number, HistoryReason.GAP))
    return pieces


@st.composite
def feeds(draw: st.DrawFn) -> list[Piece]:
    """Klines with a few lost spans, cut into batches, and history in between, each record once its candles have closed."""
    pieces: list[Piece] = []
    seconds: list[list[Kline]] = [[] for _ in range(LIVE * 60)]
    records: list[HistoryTable] = []
    for symbol in SYMBOLS:
        begins = draw(st.lists(st.integers(0, LIVE * 60 - 1), max_size=2, unique=True).map(sorted))
        lost = [(begin, min(begin + draw(st.integers(1, 130)), LIVE * 60)) for begin in begins]
        gone = {second for begin, end in lost for second in range(begin, end)}
        for second in range(LIVE * 60):
            if second not in gone:
                seconds[second].append(truth(symbol)[PAST * 60 + second])
        records += wanted(symbol, lost)
    times = [draw(st.integers(0, LIVE * 60)) for _ in records]
    cuts = {0, *draw(st.lists(st.integers(0, LIVE * 60), max_size=6)), *times, LIVE * 60}
    for begin, end in zip(sorted(cuts), [*sorted(cuts)[1:], LIVE * 60], strict=True):
        pieces += [record for record, time in zip(records, times, strict=True) if time == begin]
        pieces.append([each for second in seconds[begin:end] for each in second])
    return pieces


def reference() -> Run:
    """All history first, then every kline."""
    run = Run()
    for symbol in SYMBOLS:
        run.take(wanted(symbol, ()))
    return run.take([[each for second in range(LIVE * 60) for each in (truth(s)[PAST * 60 + second] for s in SYMBOLS)]])


@pytest.fixture(scope="module")
def whole() -> Run:
    return reference()


@settings(max_examples=15, deadline=None)
@given(pieces=feeds(), data=st.data())
def test_however_it_comes_the_values_that_count_are_those_of_the_whole_series(whole: Run, pieces: list[Piece], data: st.DataObject) -> None:
    """With holes, late history and restarts: no identity gets two values, and once history has come each best value is the true one."""
    run = Run()
    restarts = data.draw(st.sets(st.integers(0, len(pieces)), max_size=2))
    for place, piece in enumerate(pieces):
        if place in restarts:
            run.restart()
        run.take([piece])
    for kind in (INDICATORS.name, SIGNALS.name):
        assert run.best(kind) == whole.best(kind)
    fields = [
        {name: value for name, value in orjson.loads(record).items() if name in "tohlcvqVQn"} for record in run.best(CANDLES.name).values()
    ]
    true = [
        {name: value for name, value in orjson.loads(record).items() if name in "tohlcvqVQn"}
        for record in whole.best(CANDLES.name).values()
    ]
    assert sorted(fields, key=str) == sorted(true, key=str)


def test_candles_are_those_of_a_few_plain_lines(whole: Run) -> None:
    """Every built candle equals the one that plain sums over its klines give."""
    for symbol in SYMBOLS:
        for interval in CHOSEN.intervals:
            plain = {int(str(row[0])): row for row in rows(truth(symbol)[PAST * 60 :], INTERVALS[interval])}
            built = {
                record["t"]: record
                for key, value in whole.records.items()
                if key[:3] == (CANDLES.name, symbol, interval) and (record := orjson.loads(value))["origin"] == "built"
            }
            assert built.keys() == plain.keys()
            for opened, row in plain.items():
                assert [built[opened][name] for name in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")] == row
                assert built[opened]["complete"]
                assert built[opened]["klines"] == INTERVALS[interval] // SECOND_MS


def test_a_candle_closes_with_its_last_second() -> None:
    """Nothing but the symbol's own last second closes a candle: no other symbol, no later kline."""
    run = Run()
    feed = truth("BTCUSDT")[PAST * 60 :]
    run.take([feed[:59]])
    assert not [key for key in run.records if key[0] == CANDLES.name]
    run.take([feed[59:60]])
    assert [key[2] for key in run.records if key[0] == CANDLES.name] == ["1m"]
    run.take([feed[60:300]])
    assert sum(key[0] == CANDLES.name and key[2] == "5m" for key in run.records) == 1


def test_a_candle_with_a_hole_closes_past_its_end_and_says_so() -> None:
    """One lost second: the candles over it are incomplete, those after it are not."""
    feed = truth("BTCUSDT")[PAST * 60 :]
    run = Run().take([feed[:100], feed[101:300]])
    candles = {(key[2], key[3]): orjson.loads(value) for key, value in run.records.items() if key[0] == CANDLES.name}
    wrong = {(interval, (int(str(opened)) - OPENED_MS) // MINUTE_MS) for (interval, opened), c in candles.items() if not c["complete"]}
    assert wrong == {("1m", 1), ("5m", 0)}
    assert candles["5m", OPENED_MS]["klines"] == 299


def test_a_correction_is_published_and_changes_no_run() -> None:
    """The exchange's correction of a candle stands beside the built one, with a higher revision; the indicators are as they were."""
    feed = truth("BTCUSDT")[PAST * 60 :]
    corrected = history("BTCUSDT", "1m", range(1, 2), 7, HistoryReason.CORRECTION)
    early, late, without = Run().take([corrected, feed[:200]]), Run().take([feed[:200], corrected]), Run().take([feed[:200]])
    assert early.records == late.records
    assert {key[-1] for key in early.records.keys() - without.records.keys()} == {7}


def test_repeats_change_nothing() -> None:
    """Klines that are there already are counted."""
    feed = truth("BTCUSDT")[PAST * 60 :]
    once, twice = Run().take([feed[:200]]), Run().take([feed[:130], feed[70:200], feed[:10]])
    assert once.records == twice.records


def test_a_state_of_other_settings_is_refused() -> None:
    """Going on with other periods would mix two definitions: an error says what to do."""
    run = Run().take([truth("BTCUSDT")[:60]])
    with pytest.raises(EngineError, match="start the job without its state"):
        CandleEngine(CandleSettings(("1m", "5m")), CandleState(run.engine.names))


def test_totals_and_the_day_are_plain_sums(whole: Run) -> None:
    """Aggregates equal what plain Python gives over the 1m candles since the run began."""
    symbol = SYMBOLS[0]
    plain = rows(truth(symbol), MINUTE_MS)
    for value in whole.best(AGGREGATES.name).values():
        record = orjson.loads(value)
        if record["s"] != symbol:
            continue
        mine = [row for row in plain if record["since"] <= int(str(row[0])) <= record["t"]]
        volume = sum(float(str(row[5])) for row in mine)
        assert record["candles"] == record["day_candles"] == len(mine)
        for name in ("volume", "day_volume"):
            assert record[name] == pytest.approx(volume, rel=1e-12)
        assert (
            record["day_average_close"]
            == record["average_close"]
            == pytest.approx(sum(float(str(r[4])) for r in mine) / len(mine), rel=1e-12)
        )
        assert record["low"] == record["day_low"] == min(float(str(row[3])) for row in mine)
        assert record["high"] == record["day_high"] == max(float(str(row[2])) for row in mine)

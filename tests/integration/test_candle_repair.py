"""Corrected candles on a real broker: a record of the exchange leads to revised indicators and signals, once and while it follows."""

import time
from pathlib import Path

import numpy as np
import orjson

from klinestream.market import candles
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.candle_lines import candle_lines, indicator_lines, signal_lines, signals_of
from klinestream.market.decimals import Ints
from klinestream.market.events import CandleOrigin, HistoryReason
from klinestream.market.intervals import INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLE_HISTORY, CANDLES, INDICATORS, SIGNALS, SYMBOL_PARTITIONS
from klinestream.replay.repairs.candles import reaches
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.sections import SignalsConfig
from klinestream.runtime.studies import candle_settings
from tests.candles import Identity, best, keep
from tests.eventually import eventually
from tests.integration.running_repair import Repair
from tests.stack import TestBroker
from tests.topics import Topic, publish

SOON_S = 60.0
INTERVAL = "15m"
LENGTH_MS = INTERVALS[INTERVAL]
RULES = SignalsConfig(rsi_low=46.0, rsi_high=54.0, hysteresis=1.0)
SETTINGS: CandleSettings = candle_settings(Config(signals=RULES))
REACH = reaches(SETTINGS)[INTERVAL]
BEFORE = REACH.before_ms // LENGTH_MS
COUNT = BEFORE + REACH.candles + 20
CORRECTED = BEFORE + 10
START_MS = (time.time_ns() // 1_000_000 // LENGTH_MS - COUNT - 2) * LENGTH_MS


def row(place: int, jump: int = 0) -> list[object]:
    """A candle as the exchange gives it."""
    opened = START_MS + place * LENGTH_MS
    price = 200 + (13 * place * place + 5 * place) % 37 + jump
    texts = f"{price}.00000000", f"{price + 1 + abs(jump)}.00000000", f"{price - 1 - abs(jump)}.00000000", f"{price}.50000000"
    return [opened, *texts, "12.00000000", opened + LENGTH_MS - 1, "2400.00000000", 9, "5.00000000", "1000.00000000"]


def series(jump: int = 0) -> Ints:
    """All candles as a table; one may be another."""
    return table_of([row(place, jump if place == CORRECTED else 0) for place in range(COUNT)], LENGTH_MS)


def record(topic: str, line: str) -> Record:
    key, time_ms, value = line.split("\t")
    return Record(topic, key.encode(), value.encode(), int(time_ms))


def studied(symbol: str, table: Ints) -> list[Record]:
    """What the job publishes of a run."""
    step = CandleEngine(SETTINGS).take([HistoryTable(symbol, INTERVAL, HistoryReason.START, table, 0)])
    indicators = [record(INDICATORS.name, line) for rows in step.studies for line in indicator_lines(rows)]
    return [*indicators, *(record(SIGNALS.name, line) for rows in step.studies for line in signal_lines(signals_of(rows)))]


def built(symbol: str, table: Ints) -> list[Record]:
    """Candles as the job publishes those that it has built."""
    table = table.copy()
    table[candles.COUNT] = LENGTH_MS // 1000
    lines = candle_lines([symbol] * table.shape[1], INTERVAL, table, CandleOrigin.BUILT, 0)
    return [record(CANDLES.name, line) for line in lines]


def said(broker: TestBroker, symbol: str, place: int, reason: HistoryReason, jump: int = 0) -> int:
    """The exchange's own candle into its topic; the revision that the job's copy has."""
    one = row(place, jump)
    value = orjson.dumps({"s": symbol, "i": INTERVAL, "reason": reason, "rows": [one]})
    publish(broker.bootstrap_servers, [Record(CANDLE_HISTORY.name, symbol.encode(), value, int(str(one[6])))])
    topic = Topic(broker.bootstrap_servers, CANDLE_HISTORY.name)
    shard = partition_of(symbol, SYMBOL_PARTITIONS)
    revision = 1 + max(each.offset for each in topic.read() if each.partition == shard)
    topic.close()
    return revision


def copied(broker: TestBroker, symbol: str, place: int, revision: int, jump: int = 0) -> None:
    """The copy that the job publishes of it."""
    table = table_of([row(place, jump)], LENGTH_MS)
    lines = candle_lines([symbol], INTERVAL, table, CandleOrigin.HISTORY, revision)
    publish(broker.bootstrap_servers, [record(CANDLES.name, line) for line in lines])


def repair(broker: TestBroker, folder: Path) -> Repair:
    """The command with this module's rules."""
    return Repair(broker, folder, {f"SIGNALS__{name.upper()}": str(getattr(RULES, name)) for name in ("rsi_low", "rsi_high", "hysteresis")})


class Results:
    """Indicators and signals as a reader has them."""

    def __init__(self, broker: TestBroker) -> None:
        self._topics = [Topic(broker.bootstrap_servers, topic.name) for topic in (INDICATORS, SIGNALS)]

    def identities(self) -> dict[Identity, bytes]:
        """All by identity; fails where one has two values."""
        found: dict[Identity, bytes] = {}
        for name, topic in zip((INDICATORS.name, SIGNALS.name), self._topics, strict=True):
            for each in topic.read():
                keep(found, name, each.value or b"")
        return found

    def count(self) -> int:
        return sum(len(topic.read()) for topic in self._topics)

    def revised(self, symbol: str) -> dict[int, dict[str, object]]:
        """Of a symbol's indicators those that a repair has published, by open time."""
        records = [orjson.loads(value) for value in best(self.identities(), INDICATORS.name).values()]
        return {each["t"]: each for each in records if each["s"] == symbol and each["revision"]}

    def signals(self, symbol: str) -> dict[str, dict[str, object]]:
        """A symbol's signals by id."""
        records = [orjson.loads(value) for value in best(self.identities(), SIGNALS.name).values()]
        return {each["id"]: each for each in records if each["s"] == symbol}

    def close(self) -> None:
        for topic in self._topics:
            topic.close()


def right(symbol: str, table: Ints, places: range, begin: int, revision: int) -> dict[int, dict[str, object]]:
    """The indicators of a replay of a run that begins at a place."""
    found = {}
    for each in studied(symbol, table[:, begin : places.stop]):
        value = orjson.loads(each.value or b"")
        if each.topic == INDICATORS.name and value["t"] >= START_MS + places.start * LENGTH_MS:
            found[value["t"]] = value | {"revision": revision}
    return found


def ids(records: list[Record]) -> set[str]:
    return {orjson.loads(each.value or b"")["id"] for each in records if each.topic == SIGNALS.name}


def test_a_correction_revises_indicators_and_signals_once(module_broker: TestBroker, tmp_path: Path) -> None:
    """Values of a replay with its revision; a signal withdrawn and a new one; a dry run does nothing, a second one nothing new."""
    symbol, jump = "ONEUSDT", -60
    job = studied(symbol, series())
    publish(module_broker.bootstrap_servers, [*built(symbol, series()), *job])
    revision = said(module_broker, symbol, CORRECTED, HistoryReason.CORRECTION, jump)
    results = Results(module_broker)
    copied(module_broker, symbol, CORRECTED, revision, jump)

    assert "1 candles corrected" in repair(module_broker, tmp_path).once("--dry-run")
    assert results.count() == len(job)
    assert "1 candles corrected" in repair(module_broker, tmp_path).once()
    places = range(CORRECTED, CORRECTED + REACH.candles)
    assert results.revised(symbol) == right(symbol, series(jump), places, CORRECTED - BEFORE, revision)
    stands = {name for name, each in results.signals(symbol).items() if each["state"] == "fired"}
    gone = {name for name, each in results.signals(symbol).items() if each["state"] == "withdrawn"}
    in_reach = {f"{START_MS + place * LENGTH_MS}" for place in places}
    fires = {name for name in ids(studied(symbol, series(jump)[:, CORRECTED - BEFORE :])) if name.rsplit(":", 1)[1] in in_reach}
    assert {name for name in stands if name.rsplit(":", 1)[1] in in_reach} == fires
    assert gone == {name for name in ids(job) if name.rsplit(":", 1)[1] in in_reach} - fires
    assert gone
    assert fires - ids(job)

    before = results.identities()
    signals = len(results.signals(symbol))
    repair(module_broker, tmp_path).once("--symbol", symbol)
    assert results.identities() == before
    assert len(results.signals(symbol)) == signals
    results.close()


def test_following_repairs_as_records_come_and_what_is_finished_stays_so(module_broker: TestBroker, tmp_path: Path) -> None:
    """Up to a hole at first; when that is filled, the rest; after a restart nothing of it once more."""
    symbol, jump, hole = "FOLUSDT", -60, CORRECTED + 40
    whole, corrected = series(), series(jump)
    kept = np.arange(COUNT) != hole
    job = [*studied(symbol, whole[:, :hole]), *studied(symbol, whole[:, hole + 1 :])]
    publish(module_broker.bootstrap_servers, [*built(symbol, whole[:, kept]), *job])
    results = Results(module_broker)
    following = repair(module_broker, tmp_path).follow()
    try:
        eventually(following.is_well, SOON_S, "it follows")
        revision = said(module_broker, symbol, CORRECTED, HistoryReason.CORRECTION, jump)
        copied(module_broker, symbol, CORRECTED, revision, jump)
        first = right(symbol, corrected, range(CORRECTED, hole), CORRECTED - BEFORE, revision)
        eventually(lambda: results.revised(symbol) == first, SOON_S, "values up to the hole")
        copied(module_broker, symbol, hole, said(module_broker, symbol, hole, HistoryReason.GAP))
        rest = right(symbol, corrected, range(CORRECTED, CORRECTED + REACH.candles), CORRECTED - BEFORE, revision)
        eventually(lambda: results.revised(symbol) == rest, SOON_S, "the rest")
        eventually(lambda: following.metric("candle_clusters_waiting") == 0, SOON_S, "all is finished")
        assert following.metric("indicators_total") >= len(rest)
    finally:
        assert following.end() == 0, (tmp_path / "repair.log").read_text()
    assert {each["state"] for each in results.signals(symbol).values()} == {"fired", "withdrawn"}

    records = results.count()
    again = repair(module_broker, tmp_path).follow()
    try:
        eventually(again.is_well, SOON_S, "it follows")
        copied(module_broker, "LSTUSDT", hole, said(module_broker, "LSTUSDT", hole, HistoryReason.GAP))
        eventually(lambda: again.metric("candle_clusters_finished_total") == 1, SOON_S, "it looks at what is new")
    finally:
        assert again.end() == 0, (tmp_path / "repair.log").read_text()
    assert results.count() == records
    results.close()

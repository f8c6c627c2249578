"""The laws of the equality proof: what is published is found equal, whatever happened; and no changed bit escapes."""

import struct
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.archive.files import Files, day_before
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.candles import CLOSE, LOW
from klinestream.market.codec import decode_event
from klinestream.market.events import SECOND_MS, Candle, HistoryReason, Kline
from klinestream.market.intervals import DAY_MS, MINUTE_MS
from klinestream.market.topics import CANDLES, INDICATORS, KLINE_REPAIRS, KLINES, WINDOWS
from klinestream.market.windows import WindowSettings
from klinestream.replay.proof import prover as prover_module
from klinestream.replay.proof import snapshots as snapshot_module
from klinestream.replay.proof.columns import candle_table
from klinestream.replay.proof.prover import BEFORE, UNFINISHED, Prover, Stretch
from klinestream.replay.proof.results import Results, Symbols, compare, distinct, sums
from klinestream.replay.proof.snapshots import Snapshots
from klinestream.replay.repairs.candles import Versions, reaches, recomputations, republished
from tests.candles import rows
from tests.klines import START_MS, kline
from tests.published import DATE, archived, published

FIRST_MS = START_MS - START_MS % MINUTE_MS + MINUTE_MS
SETTINGS = CandleSettings()
STRETCHES = 4
LENGTH_MS = 2 * MINUTE_MS
SECONDS = STRETCHES * 120
FIELDS = ("one", "other")


def market(symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"), seconds: int = SECONDS, first_ms: int = FIRST_MS) -> list[Kline]:
    """A walk of prices, second by second."""
    random = np.random.default_rng(7)
    found = []
    begin = (first_ms - START_MS) // SECOND_MS
    for second in range(begin, begin + seconds):
        for symbol in symbols:
            price = 100 * 10**8 + int(random.integers(-(10**9), 10**9))
            made = kline(symbol, second, price, high=price + 10**7, low=price - 10**7, base_volume=int(random.integers(0, 10**12)))
            found.append(
                replace(
                    made,
                    open_time_ms=first_ms + (second - begin) * SECOND_MS,
                    close_time_ms=first_ms + (second - begin + 1) * SECOND_MS - 1,
                )
            )
    return found


def proved(files: Files, prover: Prover | None = None, first: int = 0) -> list[Stretch]:
    """All stretches, or those from `first` on."""
    prover = prover or Prover(files, WindowSettings(), SETTINGS)
    return [prover.prove((FIRST_MS + n * LENGTH_MS, FIRST_MS + (n + 1) * LENGTH_MS)) for n in range(first, STRETCHES)]


def different(stretches: list[Stretch]) -> list[object]:
    return [one for stretch in stretches for each in stretch.topics.values() for one in each.differences]


def hole(klines: Sequence[Kline], symbol: str, first: int, last: int) -> tuple[list[Kline], list[Kline]]:
    """The feed without some seconds of a symbol, and these."""
    span = range(FIRST_MS + first * SECOND_MS, FIRST_MS + last * SECOND_MS)
    missing = [each for each in klines if each.symbol == symbol and each.open_time_ms in span]
    return [each for each in klines if each not in missing], missing


def test_a_plain_run_is_equal(tmp_path: Path) -> None:
    """Every record of every topic is compared, and equal."""
    values = published(market())
    found = proved(archived(tmp_path, values, 97))
    assert different(found) == []
    assert sum(stretch.equal for stretch in found) == sum(len(values[topic.name]) for topic in (WINDOWS, CANDLES, INDICATORS))
    assert not sum(stretch.uncompared for stretch in found)


def test_holes_restarts_refills_repairs_and_corrections_are_equal(tmp_path: Path) -> None:
    """A hole that stays, one that is repaired, a kline that is corrected, a job that starts without its state, history that comes late."""
    feed, missing = hole(market(), "BTCUSDT", 130, 160)
    feed, _ = hole(feed, "ETHUSDT", 200, 215)
    wrong = next(each for each in feed if each.symbol == "ETHUSDT" and each.open_time_ms == FIRST_MS + 300 * SECOND_MS)
    late = [*missing, replace(wrong, close=wrong.close - 5, low=wrong.low - 5)]
    history = [history_of("BTCUSDT", HistoryReason.GAP, 2, 3), history_of("ETHUSDT", HistoryReason.GAP, 3, 4)]
    values = published([*feed, *feed[-7:]], restart=500, late=late, history=history)
    found = proved(archived(tmp_path, values, 211))
    assert different(found) == []
    revised = [value for _, _, value in values[WINDOWS.name] if orjson.loads(value)["revision"]]
    assert len(revised) > 200
    assert sum(stretch.topics[WINDOWS.name].equal for stretch in found) == len({value for _, _, value in values[WINDOWS.name]})


def test_an_incomplete_candle_beside_the_whole_one_is_no_difference(tmp_path: Path) -> None:
    """A job that starts without its state, from the middle of a minute, publishes that minute once more, of fewer klines."""
    klines = market()
    values, again = published(klines), published(klines[190:])
    whole = len(values[CANDLES.name])
    for topic in (CANDLES.name, INDICATORS.name):
        values[topic] += again[topic]
    found = proved(archived(tmp_path, values))
    assert different(found) == []
    assert sum(stretch.topics[CANDLES.name].equal for stretch in found) == whole
    assert sum(stretch.topics[CANDLES.name].uncompared.get(UNFINISHED, 0) for stretch in found) >= 2


def test_a_stretch_reads_the_candles_that_its_runs_still_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one all since the runs began; each further one a day, which the longest candle lasts, however old the runs are."""
    begun_ms = FIRST_MS - DAY_MS - 10 * MINUTE_MS
    lasts = range(begun_ms + MINUTE_MS - 1, FIRST_MS, MINUTE_MS)
    before = table_of([[last + 1 - MINUTE_MS, *4 * ["100"], "1", last, "100", 1, "1", "100"] for last in lasts], MINUTE_MS)
    files = archived(tmp_path, published(market(("BTCUSDT",)), history=[HistoryTable("BTCUSDT", "1m", HistoryReason.START, before, 1)]))
    begins: list[int] = []

    def noting(files: Files, wanted: Collection[str], span: tuple[int, int]) -> pa.Table:
        begins.append(span[0])
        return candle_table(files, wanted, span)

    monkeypatch.setattr(prover_module, "candle_table", noting)
    assert different(proved(files)) == []
    assert begins == [begun_ms, *(FIRST_MS + n * LENGTH_MS - DAY_MS for n in range(1, STRETCHES))]


def test_klines_and_repairs_are_looked_for_as_long_as_results(tmp_path: Path) -> None:
    """Those that were published two days later: their windows are found, so they must be, too."""
    feed, missing = hole(market(), "BTCUSDT", 130, 160)
    files = archived(tmp_path, published(feed, late=missing))
    for topic in (KLINES.name, KLINE_REPAIRS.name):
        (tmp_path / topic / f"date={DATE}").rename(tmp_path / topic / f"date={day_before(DATE, -2)}")
    found = proved(files)
    assert different(found) == []
    assert sum(stretch.equal for stretch in found) > 0


def history_of(symbol: str, reason: HistoryReason, first: int, last: int) -> HistoryTable:
    mine = [each for each in market() if each.symbol == symbol]
    made = [row for row in rows(mine, MINUTE_MS) if FIRST_MS + first * MINUTE_MS <= row[0] < FIRST_MS + last * MINUTE_MS]  # type: ignore[operator]
    return HistoryTable(symbol, "1m", reason, table_of(made, MINUTE_MS), first + 1)


def test_indicators_after_a_corrected_candle_are_equal_and_a_changed_one_is_found(tmp_path: Path) -> None:
    """What a repair publishes after the exchange's own candle differs from the built one, with its revision."""
    own = history_of("BTCUSDT", HistoryReason.CORRECTION, 3, 4)
    own.table[CLOSE] -= 7
    own.table[LOW] -= 7
    values = published(market(), history=[own])
    versions = Versions("BTCUSDT", reaches(SETTINGS)["1m"])
    for key, _, value in values[CANDLES.name]:
        if key == "BTCUSDT" and (candle := decode_event(Candle, value)).interval == "1m":
            versions.add(candle)
    again = [one.indicators.split("\t") for one in republished(recomputations(versions, 0, 2**62).parts, SETTINGS)]
    assert again
    values[INDICATORS.name] += [(key, int(time_ms), value.encode()) for key, time_ms, value in again]
    assert different(proved(archived(tmp_path / "right", values))) == []
    key, time_ms, value = values[INDICATORS.name][-1]
    values[INDICATORS.name][-1] = key, time_ms, orjson.dumps(orjson.loads(value) | {"c": 1.5})
    assert len(different(proved(archived(tmp_path / "wrong", values)))) == 1


@pytest.mark.parametrize("topic", [WINDOWS.name, CANDLES.name, INDICATORS.name])
def test_a_changed_value_is_named_with_both_values(tmp_path: Path, topic: str) -> None:
    """A change of the last bit of one number of one record, and of nothing else, is the one difference."""
    values = published(market())
    place = len(values[topic]) // 2
    key, time_ms, value = values[topic][place]
    record, name = orjson.loads(value), {"crypto_data_aggregated": "average_price", "crypto_candles": "c", "crypto_indicators": "c"}[topic]
    before = record[name]
    record[name] = before[:-1] + ("1" if before[-1] == "0" else "0") if isinstance(before, str) else next_float(before)
    values[topic][place] = key, time_ms, orjson.dumps(record)
    found = different(proved(archived(tmp_path, values)))
    assert [one.topic for one in found][:1] == [topic]  # type: ignore[attr-defined]
    assert found[0].published != found[0].replayed  # type: ignore[attr-defined]
    assert found[0].field in {"average_price", "#close", "close"}  # type: ignore[attr-defined]


def next_float(value: float) -> float:
    return float(struct.unpack("<d", struct.pack("<q", struct.unpack("<q", struct.pack("<d", value))[0] ^ 1))[0])


@pytest.mark.parametrize("topic", [WINDOWS.name, CANDLES.name, INDICATORS.name])
def test_a_missing_record_and_an_extra_one_are_found(tmp_path: Path, topic: str) -> None:
    """One that was not published, and one that no kline led to."""
    values = published(market())
    place = len(values[topic]) // 2
    gone = {**values, topic: values[topic][:place] + values[topic][place + 1 :]}
    assert [stretch.topics[topic].different for stretch in proved(archived(tmp_path / "gone", gone))].count(1) == 1
    without = {**values, KLINES.name: values[KLINES.name][:-2]}
    assert different(proved(archived(tmp_path / "extra", without)))


def test_a_run_from_before_the_archive_is_said_to_be_uncompared(tmp_path: Path) -> None:
    """Where the archive begins later than `since`, nothing is claimed, and nothing is wrong."""
    values = published(market())
    later = [one for one in values[KLINES.name] if one[1] >= FIRST_MS + LENGTH_MS]
    found = proved(archived(tmp_path, {**values, KLINES.name: later}), first=1)
    assert sum(stretch.topics[WINDOWS.name].uncompared.get(BEFORE, 0) for stretch in found) > 0
    assert sum(stretch.topics[WINDOWS.name].different for stretch in found) == 0


def test_a_run_that_the_job_ended_is_forgotten_though_its_candles_go_on(tmp_path: Path) -> None:
    """A day after the job told the last of it, from a snapshot too; one that was saved without that is as good as told until then."""
    klines = market(("BTCUSDT",))
    values, ended, anew = published(klines), published(klines[:120]), published(klines[95:])
    for topic in (CANDLES.name, INDICATORS.name):
        values[topic] = ended[topic] + anew[topic]
    files = archived(tmp_path, values)
    prover = Prover(files, WindowSettings(), SETTINGS)
    assert different(proved(files, prover)) == []
    later_ms, begun = FIRST_MS + DAY_MS + 5 * MINUTE_MS + SECOND_MS, {FIRST_MS, FIRST_MS + 2 * MINUTE_MS}
    arrays = snapshot_module._arrays(prover.held)
    del arrays["run_told"]
    of_old = snapshot_module._state(arrays, (WindowSettings(), SETTINGS), prover.symbols)
    snapshots(files).save(FIRST_MS, prover.held, 10)
    loaded = snapshots(files).load(FIRST_MS, prover.symbols)
    assert loaded is not None
    for state, left in ((prover.held, begun - {FIRST_MS}), (loaded, begun - {FIRST_MS}), (of_old, begun)):
        assert {since for _, interval, since in state.indicators.runs if not interval} == begun
        state.indicators.prune(later_ms)
        assert {since for _, interval, since in state.indicators.runs if not interval} == left


def snapshots(files: Files) -> Snapshots:
    return Snapshots(files, WindowSettings(), SETTINGS, LENGTH_MS)


def test_a_proof_from_a_snapshot_says_what_one_from_since_says(tmp_path: Path) -> None:
    """Digests, counts and differences, over a hole and a job that started without its state."""
    feed, missing = hole(market(), "BTCUSDT", 100, 125)
    files = archived(tmp_path, published(feed, restart=400, late=missing))
    kept = snapshots(files)
    first = Prover(files, WindowSettings(), SETTINGS)
    whole = []
    for n in range(STRETCHES):
        whole += [first.prove((FIRST_MS + n * LENGTH_MS, FIRST_MS + (n + 1) * LENGTH_MS))]
        kept.save(FIRST_MS + (n + 1) * LENGTH_MS, first.held, 10)
    assert different(whole) == []
    for n in range(1, STRETCHES):
        prover = Prover(files, WindowSettings(), SETTINGS)
        prover.state, prover.reached_ms = kept.load(FIRST_MS + n * LENGTH_MS, prover.symbols), FIRST_MS + n * LENGTH_MS
        assert prover.state is not None
        assert proved(files, prover, n) == whole[n:]


def test_a_damaged_or_foreign_snapshot_is_refused(tmp_path: Path) -> None:
    """Any byte that changed, one of another stretch, and one of other settings: none is gone on from."""
    files = archived(tmp_path, published(market()))
    prover = Prover(files, WindowSettings(), SETTINGS)
    prover.prove((FIRST_MS, FIRST_MS + LENGTH_MS))
    kept, end = snapshots(files), FIRST_MS + LENGTH_MS
    kept.save(end, prover.held, 10)
    body = files.read(kept.place(end)) or b""
    for place in range(0, len(body), len(body) // 40):
        files.put(kept.place(end), body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
        assert kept.load(end, Symbols()) is None
    files.put(kept.place(end + LENGTH_MS), body)
    assert kept.load(end + LENGTH_MS, Symbols()) is None
    other = replace(kept, windows=WindowSettings(rsi_period=7))
    files.put(other.place(end), body)
    assert other.load(end, Symbols()) is None
    assert kept.load(end - LENGTH_MS, Symbols()) is None


def results(records: Sequence[tuple[int, int, int, int]]) -> Results:
    keys = np.array([(symbol, 0, time, 0, 0) for symbol, time, _, _ in records], np.int64).reshape(-1, 5).T
    return Results(FIELDS, keys, np.array([values for _, _, *values in records], np.uint64).reshape(-1, 2).T)


RECORDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 3), st.integers(0, 2**64 - 1)), unique_by=lambda r: r[:2])


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.data())
def test_a_digest_depends_on_the_records_alone(records: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    """Not on order, on repeats, nor on how they were split; and any changed bit, of a key or of a value, changes it."""
    symbols = Symbols()
    symbols.numbers(["A", "B", "C"])

    def digest(found: list[tuple[int, int, int, int]]) -> dict[str, int]:
        side = distinct(results(found), symbols)
        return sums(side.results, side.digests, symbols)

    whole = digest(records)
    repeated = data.draw(st.permutations(records + data.draw(st.lists(st.sampled_from(records), max_size=4) if records else st.just([]))))
    assert digest(repeated) == whole
    cuts = sorted({0, len(records), *data.draw(st.lists(st.integers(0, len(records)), max_size=3))})
    summed: dict[str, int] = {}
    for first, last in pairwise(cuts):
        for name, value in digest(records[first:last]).items():
            summed[name] = (summed.get(name, 0) + value) % 2**64
    assert summed == whole
    if records:
        place, column, bit = data.draw(st.integers(0, len(records) - 1)), data.draw(st.integers(2, 3)), data.draw(st.integers(0, 62))
        changed = list(records)
        changed[place] = (*records[place][:column], records[place][column] ^ (1 << bit), *records[place][column + 1 :])  # type: ignore[assignment]
        assert digest(changed) != whole
        compared = compare("topic", results(changed), results(records), symbols)
        assert (compared.different, compared.equal) == (1, len(records) - 1)
        assert [one.field for one in compared.differences] == [FIELDS[column - 2]]


def test_one_identity_with_two_values_is_a_fault() -> None:
    """Published twice, once otherwise: both values are named, though one of them is what a replay gives."""
    symbols = Symbols()
    symbols.number("A")
    found = compare("topic", results([(0, 1, 5, 6), (0, 1, 5, 7), (0, 1, 5, 6)]), results([(0, 1, 5, 6)]), symbols)
    assert (found.equal, found.different, found.repeats) == (0, 1, 1)
    assert found.differences[0].field == "other"

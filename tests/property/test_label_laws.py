"""Labels look ahead as far as their name says and no further; splits leak nothing."""

import itertools
import math
import pickle
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.errors import ConfigError
from klinestream.market.intervals import MINUTE_MS
from klinestream.replay.features.labels import Barriers, Horizon, label_names, with_labels
from klinestream.replay.features.splits import Split, purged_folds, walk_forward
from klinestream.replay.features.windowed import WindowedRows
from tests.feature_rows import START_MS, rows_of, walk

FIXED = Barriers(0.002, None)


def bare(closes: dict[str, list[float | None]]) -> pl.DataFrame:
    """Rows of symbols minute by minute; None is a candle that isn't there."""
    rows = [
        {"symbol": symbol, "open_time_ms": START_MS + minute * MINUTE_MS, "close": close}
        for symbol, series in closes.items()
        for minute, close in enumerate(series)
        if close is not None
    ]
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "open_time_ms": pl.Int64, "close": pl.Float64})
    return frame.with_columns(close_time_ms=pl.col("open_time_ms") + MINUTE_MS - 1)


CLOSES = st.lists(st.one_of(st.none(), st.floats(99, 101)), max_size=25)
SERIES = st.dictionaries(st.sampled_from(("AUSDT", "BUSDT", "CUSDT")), CLOSES, min_size=1)


def plain_labels(series: list[float | None], steps: int, width: float) -> dict[int, tuple[float, int, int]]:
    """Minute → return, side and the minute that touched: few plain lines, apart from those that are tested."""
    found = {}
    for minute, close in enumerate(series):
        path = series[minute : minute + steps + 1]
        if close is None or len(path) <= steps or None in path:
            continue
        changes = [math.log((later or math.nan) / close) for later in path[1:]]
        touched = next((place for place, change in enumerate(changes) if abs(change) >= width), None)
        side = 0 if touched is None else int(math.copysign(1, changes[touched]))
        found[minute] = changes[-1], side, minute + 1 + (steps - 1 if touched is None else touched)
    return found


@given(SERIES, st.integers(1, 5))
def test_labels_are_those_of_a_plain_look_ahead(closes: dict[str, list[float | None]], steps: int) -> None:
    """Each symbol by itself; null where the horizon isn't wholly there or a hole lies in it."""
    horizon = Horizon.of(f"{steps}m", "1m")
    names = label_names(horizon)
    labelled = with_labels(bare(closes), [horizon], FIXED)
    for symbol, series in closes.items():
        right = plain_labels(series, steps, FIXED.width)
        for row in labelled.filter(symbol=symbol).iter_rows(named=True):
            found = right.get((row["open_time_ms"] - START_MS) // MINUTE_MS)
            if found is None:
                assert [row[name] for name in names] == [None, None, None]
                continue
            assert row[names[0]] == pytest.approx(found[0], abs=1e-15)
            assert (row[names[1]], row[names[2]]) == (found[1], START_MS + (found[2] + 1) * MINUTE_MS - 1)


MINUTES = [START_MS + minute * MINUTE_MS for minute in range(60)]
PRICES = [[100.0, 102.0, 98.0, float(close), 1.5] for close in np.random.default_rng(7).uniform(99, 101, 60)]
BEFORE = rows_of(MINUTES, {"AUSDT": PRICES, "BUSDT": PRICES[::-1]})


@settings(max_examples=15)
@given(st.integers(30, 58), st.randoms(use_true_random=False))
def test_the_future_changes_no_feature_and_no_label_that_does_not_reach_it(cut: int, chance: object) -> None:
    """Candles from a time on are shuffled: all rows before keep their features, and labels whose horizon ends before keep their values."""
    horizons = [Horizon.of("3m", "1m"), Horizon.of("7m", "1m")]
    later = PRICES[cut:]
    chance.shuffle(later)  # type: ignore[attr-defined]  # a random.Random
    before, after = BEFORE, rows_of(MINUTES, {"AUSDT": PRICES[:cut] + later, "BUSDT": PRICES[::-1]})
    at_ms = START_MS + cut * MINUTE_MS
    past = pl.col("open_time_ms") < at_ms
    assert before.filter(past).equals(after.filter(past))
    assert before.filter(symbol="BUSDT").equals(after.filter(symbol="BUSDT"))
    one, other = (with_labels(rows, horizons, Barriers()).filter(past) for rows in (before, after))
    assert one.select(before.columns).equals(before.filter(past)), "a label took the place of a feature"
    for horizon in horizons:
        unreached = pl.col("close_time_ms") + horizon.span_ms < at_ms
        assert one.filter(unreached).select(label_names(horizon)).equals(other.filter(unreached).select(label_names(horizon)))


def test_a_candle_that_lacks_klines_is_a_hole() -> None:
    """No label begins at it, ends at it or passes over it."""
    horizon = Horizon.of("2m", "1m")
    rows = bare({"AUSDT": [100.0, 101.0, 100.0, 99.0, 100.0, 102.0, 103.0]})
    rows = rows.with_columns(complete=pl.col("open_time_ms") != START_MS + 3 * MINUTE_MS)
    known = with_labels(rows, [horizon])["return_2m"].is_not_null().to_list()
    assert known == [True, False, False, False, True, False, False]


def test_barriers_stand_at_multiples_of_the_volatility() -> None:
    """Twice the width needs twice the move; rows whose volatility isn't known yet have no barrier but do have a return."""
    rows, horizon = walk(3, 120, symbols=1), Horizon.of("10m", "1m")
    near, far = (with_labels(rows, [horizon], Barriers(width)) for width in (0.5, 2.0))
    touched = [frame.filter(pl.col("barrier_10m") != 0).height for frame in (near, far)]
    assert touched[0] > touched[1] > 0
    unknown = near.filter(pl.col("volatility_20").is_null())
    assert unknown["barrier_10m"].null_count() == unknown.height == 20
    assert unknown["return_10m"].null_count() == 0


def test_a_coin_that_does_not_move_touches_nothing() -> None:
    """Its volatility is zero, and so are its barriers' distances: up to the horizon it has touched none, and its next move touches one."""
    rows, horizon = bare({"AUSDT": [1.0, 1.0, 1.0, 1.0, 1.1]}).with_columns(volatility_20=0.0), Horizon.of("3m", "1m")
    found = with_labels(rows, [horizon], Barriers()).filter(pl.col("barrier_3m").is_not_null())
    assert found["barrier_3m"].to_list() == [0, 1]
    assert (found["barrier_3m_touched_ms"] - found["close_time_ms"]).to_list() == [3 * MINUTE_MS] * 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Horizon.of("90s", "1m"), "multiple of 1m"),
        (lambda: Horizon.of("7m", "5m"), "multiple of 5m"),
        (lambda: Horizon.of("m", "1m"), "multiple of 1m"),
        (lambda: Horizon.of("1m", "2m"), "expected one of 1m, 5m"),
        (lambda: Barriers(0), "a width above 0"),
        (lambda: with_labels(bare({"A": [1.0, 2.0]}), [Horizon.of("1m", "1m")], Barriers()), "a column volatility_20"),
        (lambda: with_labels(bare({"A": [1.0, 2.0]}), [Horizon.of("5m", "5m")]), "candles of 300 s"),
        (lambda: list(purged_folds(np.arange(3), 1, 4)), "from 2 to 3 spans"),
        (lambda: WindowedRows(bare({"A": [1.0, 2.0]}), "1m", ["rsi"], []), "got rsi"),
        (lambda: WindowedRows(bare({"A": [1.0, 2.0]}), "1m", ["close"], [], 0), "windows of 1"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], said: str) -> None:
    """With a message that says what was expected."""
    with pytest.raises(ConfigError, match=said):
        make()


TIMES = st.lists(st.integers(0, 60), min_size=8, max_size=80).filter(lambda times: len(set(times)) >= 8)


def overlaps(times: np.ndarray, split: Split, span: int) -> bool:
    """Whether any training row's label meets what the test's rows and their labels cover."""
    first, last = times[split.test].min(), times[split.test].max() + span
    return any(start <= last and start + span >= first for start in times[split.train])


@given(TIMES, st.integers(0, 9), st.integers(2, 4), st.integers(0, 5))
def test_no_label_of_a_training_row_meets_a_test(given_times: list[int], span: int, folds: int, embargo: int) -> None:
    """Purged folds and walk-forward; the embargo is kept, times stay whole, and each row is tested once, or lies in the first span."""
    times = np.array(given_times)
    purged = list(purged_folds(times, span, folds, embargo))
    forward = list(walk_forward(times, span, folds, embargo))
    for split in itertools.chain(purged, forward):
        assert not overlaps(times, split, span)
        assert not set(times[split.train]) & set(times[split.test])
        assert split.test.tolist() == ((times >= split.from_ms) & (times < split.to_ms)).tolist()
        after = times[split.train & (times >= split.to_ms)]
        assert np.all(after > times[split.test].max() + span + embargo)
    assert np.all(sum(split.test.astype(int) for split in purged) == 1)
    assert np.all(sum(split.test.astype(int) for split in forward) == (times >= forward[0].from_ms))
    assert all(times[split.train].max(initial=-1) < split.from_ms for split in forward)


def test_purging_takes_no_more_than_it_must() -> None:
    """Of 100 minutes with labels of 5, a fold in the middle costs 5 before, 5 and the embargo after; a window bounds what is before."""
    times = np.arange(100)
    middle = list(purged_folds(times, 5, 4, 3))[1]
    assert times[~middle.train].tolist() == list(range(20, 58))
    assert times[list(walk_forward(times, 5, 4, 0, 30))[2].train].tolist() == list(range(30, 55))


def test_windows_hold_a_symbols_last_rows() -> None:
    """A window is just the rows of one symbol up to one whose labels are known; none reaches over a hole or an unknown value."""
    rows = with_labels(bare({"AUSDT": [1.0, 2, 3, 4, None, 6, 7, 8, 9], "BUSDT": [5.0, 4, 3]}), [Horizon.of("1m", "1m")])
    windows = WindowedRows(rows, "1m", ["close"], ["return_1m"], 2)
    assert [windows[number][0].ravel().tolist() for number in range(len(windows))] == [[1, 2], [2, 3], [6, 7], [7, 8], [5, 4]]
    assert windows[0][1].tolist() == pytest.approx([math.log(3 / 2)])
    assert windows.rows()["symbol"].to_list() == ["AUSDT"] * 4 + ["BUSDT"]
    unknown = rows.with_columns(close=pl.when(pl.col("close") != 2).then(pl.col("close")))
    assert [w[0].ravel().tolist() for w in map(WindowedRows(unknown, "1m", ["close"], ["return_1m"], 2).__getitem__, range(3))] == [
        [6, 7],
        [7, 8],
        [5, 4],
    ]


def test_a_map_style_loader_takes_them() -> None:
    """It has a length, gives pairs of writable float32 arrays of one shape, ends with IndexError, and goes to other processes."""
    rows = with_labels(walk(1, 60), [Horizon.of("5m", "1m")])
    windows = WindowedRows(rows, "1m", ["close", "volatility_20"], ["return_5m"], 4)
    pairs = list(windows)  # by the protocol of sequences, up to the IndexError
    assert len(pairs) == len(windows) > 0
    assert {(x.shape, y.shape, x.dtype.name, x.flags.writeable) for x, y in pairs} == {((4, 2), (1,), "float32", True)}
    again = pickle.loads(pickle.dumps(windows))  # noqa: S301  # our own
    assert all(np.array_equal(one, other) for one, other in zip(again[len(again) - 1], windows[len(windows) - 1], strict=True))


def test_torchs_loader_takes_them() -> None:
    """Where torch is installed: batches of tensors."""
    data = pytest.importorskip("torch.utils.data", reason="torch is no dependency")
    windows = WindowedRows(with_labels(walk(1, 60), [Horizon.of("5m", "1m")]), "1m", ["close"], ["return_5m"], 4)
    features, labels = next(iter(data.DataLoader(windows, batch_size=8)))
    assert (tuple(features.shape), tuple(labels.shape)) == ((8, 4, 1), (8, 1))

"""What the store of candles takes, refuses and forgets."""

from itertools import permutations
from typing import Any

import numpy as np
import orjson
import pytest

from klinestream.market.intervals import INTERVALS
from server.candles.rows import NAMES_MOST, IndicatorNames, decode_candles, decode_indicators, decode_signals
from server.candles.store import CandleStore
from server.rest.docs import CANDLE, INDICATOR, SIGNAL
from server.rest.symbols import price_at
from server.rest.tables import candles, indicators

NOW_MS = int(str(CANDLE["t"])) + 3_600_000


def line(record: dict[str, Any], **fields: object) -> bytes:
    return orjson.dumps(record | fields)


def put(store: CandleStore, *lines: bytes) -> None:
    found = decode_candles(lines, NOW_MS)
    assert not found.rejected
    store.candles.put(found.series, found.rows)


BAD_CANDLES = {
    "no JSON": b"{",
    "no object": b"7",
    "nothing": None,
    "two in one": orjson.dumps(CANDLE) + b",\n" + orjson.dumps(CANDLE),
    "very long": line(CANDLE, s="X" * 10_000),
    "a bad symbol": line(CANDLE, s="two words"),
    "an unknown interval": line(CANDLE, i="2m"),
    "a price as a number": line(CANDLE, o=1.5),
    "a price below low": line(CANDLE, c="1.00000000"),
    "a flag as a number": line(CANDLE, complete=1),
    "a count as a flag": line(CANDLE, n=True),
    "a count below zero": line(CANDLE, n=-1),
    "an unknown origin": line(CANDLE, origin="dreamt"),
    "a time off the interval": line(CANDLE, t=int(str(CANDLE["t"])) + 1),
    "a close time of another interval": line(CANDLE, T=int(str(CANDLE["T"])) + 1),
    "the future": line(CANDLE, t=int(str(CANDLE["t"])) + 86_400_000, T=int(str(CANDLE["T"])) + 86_400_000),
    "a missing field": orjson.dumps({name: value for name, value in CANDLE.items() if name != "q"}),
}


@pytest.mark.parametrize("bad", BAD_CANDLES.values(), ids=BAD_CANDLES)
def test_a_bad_candle_is_counted_and_costs_no_other(bad: bytes | None) -> None:
    """Among good ones it alone is left out."""
    good = [line(CANDLE, revision=revision) for revision in range(5)]
    found = decode_candles([*good[:3], bad, *good[3:]], NOW_MS)
    assert (found.rejected, len(found.series), found.rows["revision"].tolist()) == (1, 5, [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "bad",
    [
        line(INDICATOR, values=[1]),
        line(INDICATOR, values={"rsi_14": "50"}),
        line(INDICATOR, unready=["unheard of"]),
        line(INDICATOR, values={f"x{number}": 1 for number in range(NAMES_MOST + 1)}),
    ],
)
def test_bad_indicators_teach_no_names(bad: bytes) -> None:
    """They are counted, and the store learns nothing of what they hold."""
    names = IndicatorNames()
    found = decode_indicators([bad, orjson.dumps(INDICATOR)], NOW_MS, names)
    assert (found.rejected, names.names) == (1, ["rsi_14", "sma_50"])


def test_a_signal_whose_id_says_otherwise_is_bad() -> None:
    """Its id is made of symbol, interval, rule, side and time."""
    found = decode_signals([line(SIGNAL, side="sell"), orjson.dumps(SIGNAL), line(SIGNAL, state="pondering")], NOW_MS)
    assert (found.rejected, len(found.rows)) == (2, 1)


def test_what_goes_in_comes_out() -> None:
    """A candle whose volumes pass one int64 of 1e-8, and indicators with a null, to the last digit."""
    record = CANDLE | {"v": "123456789012345.12345678", "f": None, "L": -1}
    found = decode_candles([orjson.dumps(record)], NOW_MS)
    table = candles("BTCUSDT", "1m", found.rows)
    assert {name: column[0] for name, column in table.columns.items()} == record
    names = IndicatorNames()
    rows = decode_indicators([orjson.dumps(INDICATOR)], NOW_MS, names).rows
    shown = indicators("BTCUSDT", "1m", rows, names.names).records
    assert shown is not None
    assert shown() == [INDICATOR]


def test_symbols_beyond_the_most_are_refused() -> None:
    """Garbage must not fill the memory; those that are held go on."""
    store = CandleStore(10, symbols_most=2)
    lines = [line(CANDLE, s=symbol) for symbol in ("A", "B", "C", "A")]
    found = decode_candles(lines, NOW_MS)
    assert store.candles.put(found.series, found.rows) == 1
    assert store.candles.symbols() == ["A", "B"]
    for symbol in ("A", "B", "C"):
        store.put_provisional(symbol, 1, b"{}")
    assert [store.provisional(symbol) for symbol in ("A", "B", "C")] == [b"{}", b"{}", None]


def test_a_series_in_hand_never_changes() -> None:
    """Who reads in another thread sees the rows that were there when it asked."""
    store = CandleStore(10)
    put(store, orjson.dumps(CANDLE))
    rows = store.candles.rows("BTCUSDT", "1m")
    before = rows.copy()
    put(store, line(CANDLE, revision=3), line(CANDLE, t=int(str(CANDLE["t"])) + 60_000, T=int(str(CANDLE["T"])) + 60_000))
    assert np.array_equal(rows, before)
    assert store.candles.rows("BTCUSDT", "1m")["revision"].tolist() == [3, 0]


def test_of_one_revision_the_candle_of_more_klines_counts() -> None:
    """A job that starts without its state tells the minute that it begins in once more, of fewer klines; a correction counts more."""
    whole, part, corrected = orjson.dumps(CANDLE), line(CANDLE, klines=7, complete=False), line(CANDLE, klines=0, revision=3)
    for lines in permutations([whole, part]):
        store = CandleStore(10)
        for each in lines:
            put(store, each)
        assert store.candles.rows("BTCUSDT", "1m")["klines"].tolist() == [60]
    put(store, corrected)
    put(store, whole)
    assert store.candles.rows("BTCUSDT", "1m")["revision"].tolist() == [3]


def test_only_newer_candles_in_progress_count() -> None:
    """An older record that comes late, as after a reconnect, changes nothing."""
    store = CandleStore(10)
    for time_ms in (5, 9, 7):
        store.put_provisional("A", time_ms, str(time_ms).encode())
    assert store.provisional("A") == b"9"


def test_a_row_has_the_bytes_that_the_bound_of_memory_counts_on() -> None:
    """250 candles of 1,400 symbols and 7 intervals with 20 indicators stay below 800 MB."""
    store = CandleStore(10)
    store.names.learn(f"indicator_{number}" for number in range(20))
    put(store, orjson.dumps(CANDLE))
    rows, size = store.candles.counts()
    assert rows == 1
    assert (size + store.names.dtype.itemsize) * 250 * 1400 * 7 < 800e6


def test_the_price_of_a_time_comes_from_the_shortest_candle_that_holds_it() -> None:
    """The minute's open where it is there, else the hour's, else nothing."""
    store = CandleStore(10)
    opened = int(str(CANDLE["t"])) // 3_600_000 * 3_600_000 - 3_600_000
    for interval, price in (("1m", "61210.00000000"), ("1h", "61220.00000000")):
        put(store, line(CANDLE, i=interval, t=opened, T=opened + INTERVALS[interval] - 1, o=price))
    assert price_at("BTCUSDT", opened + 59_999, store) == 61210.0
    assert price_at("BTCUSDT", opened + 60_000, store) == 61220.0
    assert price_at("BTCUSDT", opened - 1, store) is None

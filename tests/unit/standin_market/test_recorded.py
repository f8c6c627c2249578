"""The recorded market's rules, on small recordings written for each test."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from klinestream.market.decimals import UNIT
from klinestream.market.errors import ConfigError
from klinestream.runtime.sections import StandinConfig
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.markets import open_market
from klinestream.standin.recorded import RecordedMarket
from klinestream.standin.seeded.market import SeededMarket

START_MS = 1_700_000_040_000  # a whole minute
CLOCK_BEHIND_MS = 1270  # the recorder's clock


def trade(number: int, time_ms: int, price: str = "100.00", quantity: str = "1.000", maker: bool = False) -> dict[str, Any]:
    """A trade frame, sent in the ms it was made."""
    data = {
        "e": "trade",
        "E": time_ms,
        "s": "ABCUSDT",
        "t": number,
        "p": long(price),
        "q": long(quantity),
        "T": time_ms,
        "m": maker,
        "M": True,
    }
    return {"stream": "abcusdt@trade", "data": data}


def diff(first: int, last: int, time_ms: int, bids: Iterable[tuple[str, str]] = (), asks: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """A depth frame."""
    sides = {name: [[long(price), long(quantity)] for price, quantity in side] for name, side in (("b", bids), ("a", asks))}
    return {"stream": "abcusdt@depth@100ms", "data": {"e": "depthUpdate", "E": time_ms, "s": "ABCUSDT", "U": first, "u": last, **sides}}


def ticker(update_id: int) -> dict[str, Any]:
    """A bookTicker frame."""
    sizes = {"b": long("99"), "B": long("1"), "a": long("101"), "A": long("2")}
    return {"stream": "abcusdt@bookTicker", "data": {"u": update_id, "s": "ABCUSDT", **sizes}}


def long(decimal: str) -> str:
    """With eight decimals, as the exchange writes it."""
    whole, _, fraction = decimal.partition(".")
    return f"{whole}.{fraction.ljust(8, '0')}"


def written(folder: Path, frames: Iterable[tuple[int, dict[str, Any]]], name: str = "abcusdt_20231114.gz") -> Path:
    """The frames, each with the exchange's time in ms, as a file of a recording; returns the folder."""
    lines = [f"{(time_ms - CLOCK_BEHIND_MS) * 1_000_000} {json.dumps(frame)}\n" for time_ms, frame in frames]
    (folder / name).write_bytes(gzip.compress("".join(lines).encode()))
    return folder


def sent(*frames: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Frames that carry their time, with it."""
    return [(frame["data"]["E"], frame) for frame in frames]


def at(offset_ms: int) -> int:
    """A time after the recording's first second began."""
    return START_MS + offset_ms


def small(folder: Path) -> Path:
    """2.5 s from .5 on: trades in the cut-off first second, the second and the cut-off last one; the third is quiet."""
    frames = sent(
        trade(7, at(500), "100.00"),
        trade(8, at(1200), "102.00", "2.000", maker=True),
        trade(9, at(1900), "101.00"),
        trade(10, at(3100), "90.00"),
    )
    return written(folder, frames)


def test_seconds_are_known_only_if_whole(tmp_path: Path) -> None:
    """The first and last second, cut off by the recording, are not served; a quiet one carries the close."""
    market = RecordedMarket(small(tmp_path), 0, retime=False)
    candles = market.candles("ABCUSDT", INTERVALS["1s"], at(0), at(10_000), at(10_000))
    assert [candle.open_time_ms for candle in candles] == [at(1000), at(2000)]
    traded, quiet = candles
    assert (traded.open, traded.high, traded.low, traded.close) == (102 * UNIT, 102 * UNIT, 101 * UNIT, 101 * UNIT)
    assert (traded.base_volume, traded.quote_volume) == (3 * UNIT, 305 * UNIT)
    assert (traded.taker_base_volume, traded.taker_quote_volume) == (1 * UNIT, 101 * UNIT)
    assert (traded.trades, traded.first_trade_id, traded.last_trade_id) == (2, 8, 9)
    assert (quiet.open, quiet.high, quiet.low, quiet.close) == (101 * UNIT,) * 4
    assert (quiet.trades, quiet.first_trade_id, quiet.last_trade_id, quiet.base_volume) == (0, -1, -1, 0)
    assert market.seconds(at(0), 4).known[:, 0].tolist() == [False, True, True, False]


def test_nothing_is_known_before_the_first_trade(tmp_path: Path) -> None:
    """Quiet whole seconds before any trade have no close to carry: klines begin with the first trade."""
    frames = sent(diff(1, 1, at(0)), diff(2, 2, at(1500)), trade(1, at(2500)), diff(3, 3, at(4000)))
    market = RecordedMarket(written(tmp_path, frames), 0, retime=False)
    assert market.symbols["ABCUSDT"].listed_ms == at(2000)
    assert [candle.trades for candle in market.candles("ABCUSDT", INTERVALS["1s"], 0, at(9000), at(9000))] == [1, 0]
    assert market.mini_tickers(at(2000)) == []


def test_a_candle_that_is_cut_off_is_never_served(tmp_path: Path) -> None:
    """A minute that began before the recording is not served, neither in progress nor closed; the next one is in progress."""
    frames = sent(trade(1, at(30_500)), trade(2, at(60_000)), trade(3, at(80_700)))
    market = RecordedMarket(written(tmp_path, frames), 0, retime=False)
    minute = INTERVALS["1m"]
    assert market.candle("ABCUSDT", minute, at(50_000)) is None
    assert market.candles("ABCUSDT", minute, 0, at(60_000), at(60_000)) == []
    running = market.candle("ABCUSDT", minute, at(70_000))
    assert running is not None
    assert (running.open_time_ms, running.trades, running.closed) == (at(60_000), 1, False)
    assert market.candle("ABCUSDT", minute, at(90_000)) is None


def test_after_its_end_streams_are_quiet_and_what_is_known_stays(tmp_path: Path) -> None:
    """After the last frame there are no events; candles and trades can still be asked for."""
    market = RecordedMarket(small(tmp_path), 0, retime=False)
    assert market.end_ms == at(3101)
    assert market.trades("ABCUSDT", at(3101), at(100_000)) == []
    assert market.depth_diffs("ABCUSDT", at(3101), at(100_000)) == []
    assert len(market.candles("ABCUSDT", INTERVALS["1s"], 0, at(100_000), at(100_000))) == 2
    assert [found.id for found in market.trades_by_id("ABCUSDT", 0, 3, at(100_000))] == [7, 8, 9]
    assert market.trade_id_at("ABCUSDT", at(100_000)) == 11


def test_retimed_all_times_are_shifted_alike(tmp_path: Path) -> None:
    """The first second is served at the second of the start; every time moves by the same whole number of seconds."""
    now_ms = 1_795_269_723_456
    plain = RecordedMarket(small(tmp_path), now_ms, retime=False)
    market = RecordedMarket(tmp_path, now_ms)
    shift_ms = 1_795_269_723_000 - START_MS
    assert market.clock(now_ms) == now_ms
    assert plain.clock(now_ms) == at(456)
    before, after = plain.trades("ABCUSDT", 0, at(9000)), market.trades("ABCUSDT", 0, now_ms + 9000)
    assert [trade.time_ms + shift_ms for trade in before] == [trade.time_ms for trade in after]
    assert [trade.event_ms + shift_ms for trade in before] == [trade.event_ms for trade in after]
    seconds = [of.candles("ABCUSDT", INTERVALS["1s"], 0, now_ms * 2, now_ms * 2) for of in (plain, market)]
    assert [candle.open_time_ms + shift_ms for candle in seconds[0]] == [candle.open_time_ms for candle in seconds[1]]
    assert [candle.close for candle in seconds[0]] == [candle.close for candle in seconds[1]]
    assert market.end_ms == at(3101) + shift_ms


def test_speed_runs_the_markets_time(tmp_path: Path) -> None:
    """At speed 10 a second of the market's passes in 100 ms of the wall clock's."""
    market = RecordedMarket(small(tmp_path), 5000, speed=10, retime=False)
    assert [market.clock(wall_ms) for wall_ms in (5000, 5050, 5100)] == [at(0), at(500), at(1000)]


def test_the_book_is_the_snapshot_with_the_diffs_after_it(tmp_path: Path) -> None:
    """Diffs that the snapshot holds already are passed over; quantity 0 removes a level; before it there is no book."""
    snapshot = {"lastUpdateId": 12, "bids": [[long("99"), long("1")], [long("98"), long("5")]], "asks": [[long("101"), long("2")]]}
    frames = [
        (at(0), trade(1, at(0))),
        (at(100), diff(10, 10, at(100), bids=[("97", "3")])),
        (at(150), snapshot),
        (at(200), diff(11, 13, at(200), bids=[("99", "0")], asks=[("100.5", "4")])),
        (at(300), diff(14, 15, at(300), bids=[("98", "6")])),
        (at(350), ticker(15)),
        (at(1300), diff(16, 16, at(1300), asks=[("101", "0")])),
    ]
    market = RecordedMarket(written(tmp_path, frames), 0, retime=False)
    assert market.depth("ABCUSDT", at(200), 10) is None
    book = market.depth("ABCUSDT", at(301), 10)
    assert book is not None
    assert book.last_update_id == 15
    assert book.bids == ((98 * UNIT, 6 * UNIT),)
    assert book.asks == ((100 * UNIT + UNIT // 2, 4 * UNIT), (101 * UNIT, 2 * UNIT))
    slow = market.depth_diffs("ABCUSDT", at(0), at(3000), 1000)
    assert [(found.first_update_id, found.last_update_id, found.event_ms) for found in slow] == [(10, 15, at(1000)), (16, 16, at(2000))]
    assert slow[0].bids == ((99 * UNIT, 0), (98 * UNIT, 6 * UNIT), (97 * UNIT, 3 * UNIT))
    assert [found.time_ms for found in market.book_tickers("ABCUSDT", 0, at(3000))] == [at(350)]


def test_files_of_a_symbol_follow_each_other(tmp_path: Path) -> None:
    """Several files of a symbol are one recording, in order of their names."""
    written(tmp_path, sent(trade(3, at(2000))), "abcusdt_20231115.gz")
    written(tmp_path, sent(trade(1, at(0)), trade(2, at(1000))), "abcusdt_20231114.gz")
    market = RecordedMarket(tmp_path, 0, retime=False)
    assert list(market.symbols) == ["ABCUSDT"]
    assert [found.id for found in market.trades("ABCUSDT", 0, at(5000))] == [1, 2, 3]


BROKEN = {
    "don't go on from 1 to 3": sent(trade(1, at(0)), trade(3, at(10))),
    "update ids don't go on": sent(diff(1, 1, at(0)), diff(3, 3, at(100)), trade(1, at(200))),
    "trade times fall": sent(trade(1, at(10)), trade(2, at(0))),
    "found none": [(at(0), ticker(1))],
    "expected trades of ABCUSDT": sent(diff(1, 1, at(0))),
    "line 2: KeyError": [*sent(trade(1, at(0))), (at(1), {"stream": "abcusdt@trade", "data": {"s": "ABCUSDT"}})],
    "its symbol is ABCUSDT": sent(trade(1, at(0))),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_recording_that_cannot_be_trusted_is_refused(tmp_path: Path, message: str) -> None:
    """Gaps, falling times and lines that can't be used are errors that say where and what."""
    written(tmp_path, BROKEN[message], "xyzusdt_20231114.gz" if "symbol is" in message else "abcusdt_20231114.gz")
    with pytest.raises(ConfigError, match=message):
        dict(RecordedMarket(tmp_path, 0).symbols)


def test_a_line_that_is_no_frame_is_refused(tmp_path: Path) -> None:
    """A line without a clock and JSON, or a file that isn't gzip, is an error that names the file."""
    (tmp_path / "abcusdt_1.gz").write_bytes(gzip.compress(b"nonsense\n"))
    with pytest.raises(ConfigError, match=r"abcusdt_1\.gz, line 1"):
        RecordedMarket(tmp_path, 0)
    (tmp_path / "abcusdt_1.gz").write_bytes(b"nonsense\n")
    with pytest.raises(ConfigError, match=r"readable gzip file.*abcusdt_1\.gz"):
        RecordedMarket(tmp_path, 0)


def test_the_configuration_chooses_the_market(tmp_path: Path) -> None:
    """Frames give the recorded market, none the seeded one; a folder without frames is an error."""
    assert isinstance(open_market(StandinConfig(symbols=3), 0), SeededMarket)
    with pytest.raises(ConfigError, match="found none"):
        open_market(StandinConfig(frames=str(tmp_path)), 0)
    assert isinstance(open_market(StandinConfig(frames=str(small(tmp_path))), 0), RecordedMarket)

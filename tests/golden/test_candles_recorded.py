"""Candles that the engine builds from recorded klines, next to those that DuckDB makes straight from the recorded trades."""

import orjson
import pytest

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_lines import built_lines
from klinestream.market.decimals import parse
from klinestream.market.events import Kline, Origin
from klinestream.market.intervals import INTERVALS
from klinestream.standin.intervals import INTERVALS as EXCHANGE_INTERVALS
from tests.golden.test_standin_recorded import END_MS, FIRST_MINUTE_MS, FRAMES, SYMBOLS, expected, market

pytestmark = pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")


def recorded(symbol: str) -> list[Kline]:
    """The ten whole minutes, as the producer publishes them."""
    klines = []
    newest = -1
    for second in market().candles(symbol, EXCHANGE_INTERVALS["1s"], FIRST_MINUTE_MS, END_MS - 1, END_MS * 2):
        newest = second.last_trade_id if second.trades else newest
        klines.append(
            Kline(
                symbol,
                second.open_time_ms,
                second.open_time_ms + 999,
                second.open,
                second.high,
                second.low,
                second.close,
                second.base_volume,
                second.quote_volume,
                second.taker_base_volume,
                second.taker_quote_volume,
                second.trades,
                second.first_trade_id,
                second.last_trade_id,
                newest,
                Origin.LIVE,
            )
        )
    return klines


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_built_candles_equal_those_from_the_trades(symbol: str) -> None:
    """Over midnight UTC: each candle of each interval equals DuckDB's in every field, trade ids included, and is whole where it can be."""
    engine = CandleEngine(CandleSettings(provisional=False))
    lines = built_lines(engine.step(from_klines(recorded(symbol))), engine.symbols)
    built = [orjson.loads(line.split("\t")[2]) for line in lines]
    assert {(c["i"], c["complete"]) for c in built} == {("1m", True), ("5m", True)} | {(i, False) for i in ("15m", "30m", "1h", "4h", "1d")}
    for interval, length_ms in INTERVALS.items():
        mine = {c["t"]: c for c in built if c["i"] == interval}
        trades = expected(symbol, length_ms)
        assert mine.keys() == {opened for opened in trades if FIRST_MINUTE_MS - length_ms < opened and opened + length_ms <= END_MS}
        for opened, candle in mine.items():
            if candle["complete"]:
                decimals = tuple(parse(candle[name]) for name in ("o", "h", "l", "c", "v", "q", "V", "Q"))
                assert (*decimals, candle["n"], candle["f"], candle["L"]) == trades[opened]

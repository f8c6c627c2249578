"""Klines built from recorded trades against those that DuckDB makes straight from the recorded files."""

import pytest

from klinestream.market.events import BINANCE, SECOND_MS, Origin, Proof, Trade
from klinestream.market.second_builder import SecondBuilder
from tests.golden.test_standin_recorded import FRAMES, SYMBOLS, database

pytestmark = pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")

# The products are added up with all sixteen decimals, and cut off once.
KLINES = """
    SELECT
        time // 1000 * 1000 AS opened,
        arg_min(price, id), max(price), min(price), arg_max(price, id),
        sum(quantity), sum(price * quantity) // 100000000,
        coalesce(sum(quantity) FILTER (NOT maker), 0), coalesce(sum(price * quantity) FILTER (NOT maker), 0) // 100000000,
        count(*), min(id), max(id)
    FROM trades GROUP BY opened ORDER BY opened
"""


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_recorded_trades_give_the_klines_that_a_database_makes(symbol: str) -> None:
    """Each second with trades in every field, and the ones between are quiet with the close carried on."""
    rows = database(symbol).execute("SELECT id, time, price, quantity, maker FROM trades ORDER BY id").fetchall()
    builder = SecondBuilder(symbol, grace_ms=1000)
    klines = []
    for number, time_ms, price, quantity, maker in rows:
        klines += builder.add(
            Trade(symbol, None, number, number, int(price), int(quantity), time_ms, maker, None, Origin.LIVE, BINANCE, Proof.IDS)
        )
    klines += builder.tick(rows[-1][1] + 2 * SECOND_MS)
    made = {
        kline.open_time_ms: (
            *(kline.open, kline.high, kline.low, kline.close),
            *(kline.base_volume, kline.quote_volume, kline.taker_base_volume, kline.taker_quote_volume),
            *(kline.trades, kline.first_trade_id, kline.last_trade_id_within),
        )
        for kline in klines
    }
    expected = {row[0]: row[1:] for row in database(symbol).execute(KLINES).fetchall()}
    assert {opened: fields for opened, fields in made.items() if fields[8]} == expected
    assert len(expected) > 500
    assert list(made) == list(range(min(made), max(made) + 1, SECOND_MS))
    carried = 0
    for kline in klines:
        assert kline.trades or kline.open == kline.high == kline.low == kline.close == carried
        carried = kline.close

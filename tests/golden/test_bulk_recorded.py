"""Recorded trades as a bulk file, and the klines that come of it next to those that DuckDB makes straight from the recording."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from klinestream.market.decimals import show
from klinestream.standin.bulk import write
from tests.bulk import store, taken
from tests.golden.test_standin_recorded import FRAMES, KNOWN_END_MS, SYMBOLS, database, expected

pytestmark = pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")

MIDNIGHT_MS = 1_723_161_600_000
COLUMNS = (
    "open_time_ms",
    *("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume"),
    *("trades", "first_trade_id", "last_trade_id_within"),
)


def rows(symbol: str, from_ms: int, to_ms: int) -> Iterator[str]:
    for trade_id, time_ms, price, quantity, maker in (
        database(symbol).execute("SELECT * FROM trades WHERE time >= ? AND time < ? ORDER BY id", [from_ms, to_ms]).fetchall()
    ):
        quote = show(int(price) * int(quantity) // 10**8)
        yield f"{trade_id},{show(int(price))},{show(int(quantity))},{quote},{time_ms},{maker},True"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_each_second_of_two_days_equals_the_one_made_by_duckdb(symbol: str, tmp_path: Path) -> None:
    """Each second with trades in every field; quiet ones, over midnight too, carry on the close and the newest id."""
    into = store()
    days = {"2024-08-08": (0, MIDNIGHT_MS), "2024-08-09": (MIDNIGHT_MS, KNOWN_END_MS)}
    found = []
    for day, span in days.items():
        taken(into, write(tmp_path, f"{symbol}-trades-{day}", rows(symbol, *span)))
        kept = into.read(f"crypto_kline_data/date={day}/{symbol}.parquet")
        assert kept is not None
        found.append(kept.table)
    table = pa.concat_tables(found)
    klines = {opened: values for opened, values in expected(symbol, 1000).items() if opened < KNOWN_END_MS}
    assert table.column("open_time_ms").to_pylist() == list(range(min(klines), MIDNIGHT_MS + 86_400_000, 1000))
    close, newest = 0, -1
    ids = table.column("last_trade_id").to_pylist()
    for opened, *values in zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True):
        mine = tuple(int(value.scaleb(8)) if hasattr(value, "scaleb") else value for value in values)
        right = klines.get(opened, (close, close, close, close, 0, 0, 0, 0, 0, -1, -1))
        # DuckDB's quote volumes are cut off trade by trade, a kline's once: less than 1e-8 a trade apart.
        assert all(0 <= mine[place] - right[place] <= right[8] for place in (5, 7))
        assert (*mine[:5], mine[6], *mine[8:]) == (*right[:5], right[6], *right[8:])
        close, newest = right[3], right[10] if right[8] else newest
        assert ids[(opened - min(klines)) // 1000] == newest

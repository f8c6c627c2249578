"""Laws of the import of files: what a row says is what it was given as, and no order of rows changes what comes of them."""

from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from klinestream.files.cleaning import Clean, Terms, clean
from klinestream.files.ordering import Carried, ordered
from klinestream.files.reading import Cells

NUMBERS = st.decimals(0, Decimal(10**15 - 1), places=8, allow_nan=False)
WORDS = st.text(max_size=30) | st.sampled_from(["", "nan", "-1", "1e400", "1e-9", "0x1", "١", "1_000", "inf", "1e", "9" * 40])


def trades(columns: dict[str, list[str]]) -> Clean:
    texts = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    count = len(columns["time"])
    return clean(Cells(np.arange(1, count + 1), texts, lambda row: f"row {row}"), Terms("trades", venue="HOUSE"), 0)


@given(NUMBERS, st.booleans())
def test_a_number_stays_what_it_is(number: Decimal, is_scientific: bool) -> None:
    """In either writing, to the last of eight decimals."""
    text = f"{number:e}" if is_scientific else f"{number:f}"
    found = trades({"time": ["1700000000"], "symbol": ["X"], "price": ["1"], "quantity": [text]})
    assert found.table.column("quantity").to_pylist() == [number], found.rejected


@given(st.integers(10**17, 4 * 10**18), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_a_time_is_the_same_in_each_unit(nanoseconds: int, unit: int) -> None:
    """Cut off at µs; from 1973 on."""
    number = nanoseconds // unit
    found = trades({"time": [f"{number}"], "symbol": ["X"], "price": ["1"], "quantity": ["1"]})
    assert found.table.column("time_us").to_pylist() == [number * unit // 1000]
    assert found.units.total() == 1


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=20))
def test_each_row_is_taken_or_told(rows: list[tuple[str, ...]]) -> None:
    """Whatever the cells are, nothing raises, and a row has one fate and a reason."""
    names = ("time", "symbol", "price", "quantity", "id")
    found = trades({name: [row[place] for row in rows] for place, name in enumerate(names)})
    told = [number for number, reason, _ in found.rejected if reason]
    assert sorted([*told, *found.table.column("row").to_pylist()]) == list(range(1, len(rows) + 1))


def frame(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    """Klines of symbol, second and close, as they are after cleaning."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {"symbol": pl.String, "time_us": pl.Int64}
    schema |= dict.fromkeys(("open", "high", "low", "close"), pl.Decimal(38, 8))
    schema |= dict.fromkeys(("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume"), pl.Decimal(38, 8))
    schema |= dict.fromkeys(("trades", "first_id", "last_id", "file", "row"), pl.Int64)
    values = [(s, t * 10**6, *[Decimal(c)] * 4, *[Decimal(0)] * 4, 1, t, t, 0, n) for n, (s, t, c) in enumerate(rows)]
    return pl.DataFrame(values, schema=schema, orient="row")


KLINES = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 30), st.just(7)), min_size=1, max_size=60)


@given(KLINES, st.randoms(use_true_random=False), st.booleans())
def test_order_and_repeats_change_nothing(rows: list[tuple[str, int, int]], random: object, is_filled: bool) -> None:
    """Any order of rows, each any number of times, comes to the same."""
    shuffled = rows * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # random.Random, as hypothesis has it
    plain, other = (ordered(frame(each), "klines", 1000, {}, fill_quiet=is_filled) for each in (sorted(set(rows)), shuffled))
    assert plain.rows.drop("file", "row").equals(other.rows.drop("file", "row"))
    assert (plain.holes, plain.filled) == (other.holes, other.filled)
    assert other.repeated == len(shuffled) - len(set(rows))


@given(KLINES, st.integers(0, 31), st.booleans())
def test_a_stretch_goes_on_where_the_one_before_ended(rows: list[tuple[str, int, int]], cut: int, is_filled: bool) -> None:
    """Rows in two stretches have the same proofs, holes and quiet seconds as in one."""
    every = sorted(set(rows))
    whole = ordered(frame(every), "klines", 1000, {}, fill_quiet=is_filled)
    carried: dict[str, Carried] = {}
    parts = []
    for part in ([row for row in every if row[1] < cut], [row for row in every if row[1] >= cut]):
        if part:
            found = ordered(frame(part), "klines", 1000, carried, fill_quiet=is_filled)
            carried = found.carried
            parts.append(found)
    joined = pl.concat([part.rows for part in parts]).sort("symbol", "time_us")
    assert whole.rows.drop("file", "row").equals(joined.drop("file", "row"))
    assert sorted(whole.holes) == sorted(hole for part in parts for hole in part.holes)

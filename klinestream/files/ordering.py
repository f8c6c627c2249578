"""Rows of a stretch of time in order, each once, with what proves them; and what was found on the way.

as they came   |12|10|11|11'|14|          rows of one symbol
in order       |10|11|12|  |14|           11' says the same: counted; says something else: rejected, the first one stays
proof           none ids ids   none       ids where the ids go on from the row before, in this import

Klines are of one symbol and time, trades of one symbol and id. Trades stand by ms, then by id: so they do on the exchange.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from klinestream.files.names import KLINES
from klinestream.market.errors import ConfigError
from klinestream.market.events import Proof

_WITHIN_MS_MOST = 10_000  # so that time and number still fit 63 bits
_FILLED_MOST = 3600  # seconds: nobody knows of a longer silence that it is one
CONFLICT = "another row of the same time or id came first, with other content"
_UNKNOWN = -2
_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")

Carried = tuple[int, int | None, str]
"""Of a symbol: µs of its newest row, id of its newest trade, close or price."""

Place = tuple[int, int, str]
"""File, row, and what it says."""


@dataclass(slots=True)
class Ordered:
    """Rows of a stretch."""

    rows: pl.DataFrame
    repeated: int = 0
    unordered: int = 0
    """Rows that came after a later one of their symbol."""
    filled: int = 0
    backwards: int = 0
    """Trades whose id is below that of the one before."""
    conflicts: list[Place] = field(default_factory=list)
    holes: list[tuple[str, int, int]] = field(default_factory=list)
    """Symbol, ms of the first kline that is missing, and of the first that is there again."""
    carried: dict[str, Carried] = field(default_factory=dict)


def ordered(rows: pl.DataFrame, kind: str, length_ms: int, before: Mapping[str, Carried], *, fill_quiet: bool = False) -> Ordered:
    """Order the rows of a stretch; `before` is what was carried from the one before."""
    found = Ordered(rows)
    came = rows.sort("symbol", "file", "row").select((pl.col("time_us") < pl.col("time_us").shift(1).over("symbol")).sum())
    found.unordered = int(came.item() or 0)
    if kind == KLINES:
        found.rows = _once(rows.sort("symbol", "time_us", "file", "row"), ("symbol", "time_us"), found)
        found.rows = _with_before(found.rows, before)
        _find_holes(found, length_ms)
        if fill_quiet and found.holes:
            _fill(found, before, length_ms)
        found.rows = _proved_klines(found.rows, length_ms)
    else:
        found.rows = _with_before(_trades_once(rows, found), before)
        newest = pl.col("last_id").shift(1).over("symbol").fill_null(pl.col("before_id"))
        found.backwards = found.rows.filter(pl.col("given") & (pl.col("first_id") <= newest)).height
        found.rows = _proved_trades(found.rows)
    found.rows = found.rows.drop("before_us", "before_id", "before_close")
    found.carried = dict(before) | _carried(found.rows, "close" if kind == KLINES else "price")
    return found


def _once(rows: pl.DataFrame, key: tuple[str, ...], found: Ordered) -> pl.DataFrame:
    """The first row of each key."""
    first = pl.struct(key).is_first_distinct()
    marked = rows.with_columns(first.alias("_first"))
    if marked["_first"].all():
        return rows
    content = [name for name in rows.columns if name not in (*key, "file", "row")]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first().over(key)) for name in content)
    others = marked.with_columns(same.alias("_same")).filter(~pl.col("_first"))
    found.repeated += int(others["_same"].sum())
    found.conflicts += places(others.filter(~pl.col("_same")).drop("_first", "_same"))
    return marked.filter("_first").drop("_first")


def places(rows: pl.DataFrame) -> list[Place]:
    """Where rows stood, and what they were read as."""
    return [(file, row, ",".join("" if cell is None else str(cell) for cell in cells)) for *cells, file, row in _told_last(rows).rows()]


def _told_last(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.exclude("file", "row"), "file", "row")


def _trades_once(rows: pl.DataFrame, found: Ordered) -> pl.DataFrame:
    """Trades by id; without ids those of one ms are numbered in their order, and two alike are two."""
    known, unknown = rows.filter(pl.col("first_id").is_not_null()), rows.filter(pl.col("first_id").is_null())
    known = _once(known.sort("symbol", "first_id", "file", "row"), ("symbol", "first_id"), found).with_columns(given=pl.lit(value=True))
    if not len(unknown):
        return known.sort("symbol", pl.col("time_us") // 1000, "first_id")
    unknown = unknown.sort("symbol", "time_us", "file", "row")
    place = pl.int_range(pl.len()).over("symbol", pl.col("time_us") // 1000)
    numbered = unknown.with_columns(place.alias("_place"))
    if int(numbered["_place"].max() or 0) >= _WITHIN_MS_MOST:  # type: ignore[arg-type]  # an integer
        raise ConfigError(f"expected fewer than {_WITHIN_MS_MOST:,} trades of a symbol in one ms where trades have no ids")
    number = pl.col("time_us") // 1000 * _WITHIN_MS_MOST + pl.col("_place")
    numbered = numbered.with_columns(number.alias("first_id"), number.alias("last_id"), given=pl.lit(value=False)).drop("_place")
    return pl.concat([known, numbered]).sort("symbol", pl.col("time_us") // 1000, "first_id")


def _with_before(rows: pl.DataFrame, before: Mapping[str, Carried]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "before_us": pl.Int64, "before_id": pl.Int64, "before_close": pl.String}
    carried = pl.DataFrame([(symbol, *each) for symbol, each in before.items()], schema=schema, orient="row")
    return rows.join(carried, on="symbol", how="left", maintain_order="left")


def _find_holes(found: Ordered, length_ms: int) -> None:
    previous = pl.col("time_us").shift(1).over("symbol").fill_null(pl.col("before_us"))
    gone = found.rows.with_columns(previous.alias("_previous")).filter(pl.col("time_us") - pl.col("_previous") > length_ms * 1000)
    found.holes = [
        (symbol, previous // 1000 + length_ms, time // 1000)
        for symbol, previous, time in gone.select("symbol", "_previous", "time_us").rows()
    ]


def _fill(found: Ordered, before: Mapping[str, Carried], length_ms: int) -> None:
    """Quiet seconds where none are, up to an hour; longer holes stay."""
    short = [hole for hole in found.holes if (hole[2] - hole[1]) // length_ms <= _FILLED_MOST]
    found.holes = [hole for hole in found.holes if (hole[2] - hole[1]) // length_ms > _FILLED_MOST]
    if short:
        made = _quiet(found.rows, short, before, length_ms * 1000)
        found.filled = len(made)
        found.rows = pl.concat([found.rows, _with_before(made, before)]).sort("symbol", "time_us")


def _quiet(rows: pl.DataFrame, holes: list[tuple[str, int, int]], before: Mapping[str, Carried], length_us: int) -> pl.DataFrame:
    """Klines of these holes, as columns: a day of them as objects would take several times the room."""
    kind, price = rows.drop("before_us", "before_id", "before_close").schema, rows.schema["close"]
    carried = {symbol: Decimal(before[symbol][2]) for symbol, _, _ in holes if symbol in before}
    spans = [(symbol, from_ms * 1000, to_ms * 1000, carried.get(symbol)) for symbol, from_ms, to_ms in holes]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {"symbol": pl.String, "from_us": pl.Int64, "to_us": pl.Int64, "carried": price}
    ends = rows.select("symbol", "close", from_us=pl.col("time_us") + length_us)
    found = pl.DataFrame(spans, schema=schema, orient="row").join(ends, on=("symbol", "from_us"), how="left")
    times = pl.int_ranges("from_us", "to_us", length_us)
    found = found.select("symbol", pl.coalesce("close", "carried").alias("close"), times.alias("time_us")).explode("time_us")
    known = {"symbol": pl.col("symbol"), "time_us": pl.col("time_us"), **dict.fromkeys(_PRICES, pl.col("close"))}
    known |= dict.fromkeys((*_VOLUMES, "trades", "row"), pl.lit(0)) | {"file": pl.lit(-1)}
    return found.select(known.get(name, pl.lit(None)).cast(each).alias(name) for name, each in kind.items())


def _proved_klines(rows: pl.DataFrame, length_ms: int) -> pl.DataFrame:
    whole = ((pl.col("last_id") - pl.col("first_id") + 1 == pl.col("trades")) & (pl.col("trades") > 0)).fill_null(value=False)
    goes_on = pl.col("time_us") - pl.col("time_us").shift(1).over("symbol").fill_null(pl.col("before_us")) == length_ms * 1000
    # Through quiet seconds the newest id stays; past a hole, or trades without ids, nobody knows it.
    known = pl.when(whole).then(pl.col("last_id")).when(~goes_on | (pl.col("trades") > 0)).then(_UNKNOWN)
    newest = known.forward_fill().over("symbol").fill_null(pl.col("before_id"))
    rows = rows.with_columns(pl.when(newest != _UNKNOWN).then(newest).alias("newest_id"))
    before = pl.col("newest_id").shift(1).over("symbol").fill_null(pl.col("before_id"))
    proved = (goes_on & whole & (pl.col("first_id") == before + 1)).fill_null(value=False)
    quiet = (pl.col("trades") == 0) & pl.col("newest_id").is_not_null()
    return rows.with_columns(
        # Of a quiet second nothing but the next one's ids tells that it was one.
        pl.when(proved).then(pl.lit(Proof.IDS.value)).otherwise(pl.lit(Proof.NONE.value)).alias("proof"),
        pl.when(quiet).then(-1).otherwise(pl.col("first_id")).alias("first_id"),
        pl.when(quiet).then(-1).otherwise(pl.col("last_id")).alias("last_id"),
    )


def _proved_trades(rows: pl.DataFrame) -> pl.DataFrame:
    previous = pl.col("last_id").shift(1).over("symbol").fill_null(pl.col("before_id"))
    proved = (pl.col("given") & (pl.col("first_id") == previous + 1)).fill_null(value=False)
    proof = pl.when(proved).then(pl.lit(Proof.IDS.value)).otherwise(pl.lit(Proof.NONE.value))
    newest = pl.when(pl.col("given")).then(pl.col("last_id"))
    return rows.with_columns(proof.alias("proof"), newest.alias("newest_id")).drop("given")


def _carried(rows: pl.DataFrame, price: str) -> dict[str, Carried]:
    last = rows.group_by("symbol", maintain_order=True).last().select("symbol", "time_us", "newest_id", price)
    return {symbol: (time, newest, str(close)) for symbol, time, newest, close in last.rows()}

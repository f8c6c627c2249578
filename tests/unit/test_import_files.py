"""`klinestream import` into the archive: dirty files come to what clean ones hold, and what is no row is told apart."""

import csv
import gzip
import json
import os
import time
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from klinestream.cli import import_files
from klinestream.cli.main import app
from klinestream.files import importing
from klinestream.files.events import candle_records
from klinestream.files.ordering import Ordered, ordered
from klinestream.files.targets import Archive, Form, Topics
from klinestream.market import candles
from klinestream.market.candle_history import decode_history
from klinestream.runtime import config
from klinestream.runtime.sections import KafkaConfig
from tests.files import UNIT, seconds, shown, trades

PRICES = ("open", "high", "low", "close")
VOLUMES = ("volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume")
ARCHIVE = Path(".klinestream/archive/imported")
HEAD = "symbol,open_time,open,high,low,close,volume,quote_volume,count,taker_buy_base_volume,taker_buy_quote_volume"


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    return empty_folder


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["import", *arguments])


def imported(*arguments: str) -> dict[str, Any]:
    """What the command tells of an import, which has to succeed."""
    done = invoked("--json", "--source", "house", *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rejected(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Row and reason of each rejected row."""
    with Path(told["report"]).open(newline="") as file:
        return [(row["row"], row["reason"]) for row in csv.DictReader(file)]


def rows_of(table: str, columns: str) -> list[tuple[Any, ...]]:
    """Of all tables of a kind, with the symbol that the file's name tells."""
    symbol = "regexp_extract(filename, '([^/]+)\\.parquet$', 1)"
    files = f"read_parquet('{ARCHIVE}/{table}/*/*.parquet', filename = true, hive_partitioning = false)"
    return duckdb.connect().execute(f"SELECT {symbol}, {columns} FROM {files} ORDER BY ALL").fetchall()  # noqa: S608  # our own words


def in_units(time: int, number: int) -> str:
    """A time in ms, as this one of files with mixed units has it."""
    whole, rest = divmod(time, 1000)
    iso = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
    return (f"{time}", f"{time}000", f"{time}000000", f"{whole}.{rest:03d}", iso)[number % 5]


def test_shuffled_repeated_trades_in_mixed_units_come_to_the_clean_ones() -> None:
    """From CSV, packed too, and Parquet: each trade once, exactly, in order, with its rejects told."""
    clean = trades()
    dirty = pl.concat([clean, clean.sample(500, seed=1)]).sample(fraction=1, shuffle=True, seed=2)
    times = [in_units(time, number) for number, time in enumerate(dirty["time"].to_list())]
    as_text = dirty.with_columns(time=pl.Series(times))
    third = len(dirty) // 3
    as_text[:third].write_csv("a.csv")
    with gzip.open("b.csv.gz", "wb") as file:
        file.write(as_text[third : 2 * third].write_csv().encode())
    exact = dirty[2 * third :].with_columns(pl.col("price", "quantity").cast(pl.Decimal(30, 8)), pl.from_epoch("time", "ms"))
    exact.write_parquet("c.parquet")
    told = imported("a.csv", "b.csv.gz", "c.parquet", "--kind", "trades")
    assert (told["read"], told["accepted"], told["repeated"], told["rejected"]) == (len(dirty), len(clean), 500, {})
    assert told["unordered"] > len(clean) // 4
    assert set(told["units"]) == {"s", "ms", "µs", "ns", "text"}
    assert told["proved"] == len(clean) - clean["symbol"].n_unique()
    columns = "id, time_us, price, quantity, buyer_is_maker"
    found = [(symbol, *row[:2], *(f"{each:f}" for each in row[2:4]), row[4]) for symbol, *row in rows_of("trades", columns)]
    right = clean.select(pl.format("HOUSE:{}", "symbol"), "id", pl.col("time") * 1000, "price", "quantity", "maker").rows()
    assert found == sorted(right)


def test_dirty_klines_come_to_the_clean_ones_and_holes_are_told() -> None:
    """Shuffled, repeated, some with other content, from a zip and from Parquet with floats' own columns left out."""
    clean = seconds()
    texts = clean.with_columns(
        *(pl.col(name).map_elements(shown, pl.String) for name in (*PRICES, *VOLUMES)), close_time=pl.col("opened") + 999
    ).rename({"opened": "Open time"})
    changed = texts[10:20].with_columns(count=pl.col("count") + 1)
    dirty = pl.concat([texts.sample(fraction=1, shuffle=True, seed=3), texts[5:30], changed])
    dirty[: len(dirty) // 2].write_csv("half.csv")
    with zipfile.ZipFile("half.csv.zip", "w") as packed:
        packed.write("half.csv")
    os.remove("half.csv")
    dirty[len(dirty) // 2 :].write_parquet("rest.parquet")
    told = imported("half.csv.zip", "*.parquet", "--kind", "klines")
    assert (told["accepted"], told["repeated"]) == (len(clean), 25)
    assert told["rejected"] == {"another row of the same time or id came first, with other content": 10}
    assert len(rejected(told)) == 10
    by_symbol = clean.group_by("symbol").agg(((pl.col("opened").max() - pl.col("opened").min()) // 1000 + 1 - pl.len()).alias("gone"))
    assert told["missing"] == by_symbol["gone"].sum() > 0
    columns = "open_time_ms, open, high, low, close, base_volume, quote_volume, taker_base_volume, taker_quote_volume, trades"
    found = rows_of("crypto_kline_data", f"{columns}, first_trade_id, last_trade_id_within")
    right = clean.with_columns(pl.format("HOUSE:{}", "symbol").alias("symbol")).rows()
    as_units = [(symbol, opened, *(int(each * UNIT) for each in row[:8]), *row[8:]) for symbol, opened, *row in found]
    assert as_units == sorted(right)


def test_filled_seconds_are_quiet_with_the_close_carried_on() -> None:
    """With --fill-quiet alone, and all ids proved over them."""
    clean = seconds()
    texts = clean.with_columns(*(pl.col(name).map_elements(shown, pl.String) for name in (*PRICES, *VOLUMES)))
    texts.rename({"opened": "timestamp"}).write_csv("klines.csv")
    told = imported("klines.csv", "--fill-quiet")
    assert (told["holes"], told["accepted"] - told["filled"]) == (0, len(clean))
    assert told["proved"] == len(clean) - clean["symbol"].n_unique()
    closes = {(f"HOUSE:{symbol}", opened // 1000): close for symbol, opened, close in clean.select("symbol", "opened", "close").rows()}
    previous: dict[str, int] = {}
    rows = rows_of("crypto_kline_data", "open_time_ms, open, high, low, close, base_volume, trades, origin, source, proof, first_trade_id")
    for symbol, opened, *prices, volume, count, origin, source, proof, first in rows:
        close = closes.get((symbol, opened // 1000))
        if close is None:
            assert {int(price * UNIT) for price in prices} == {previous[symbol]}
            assert (volume, count, proof, first) == (0, 0, "none", -1)
        assert (origin, source) == ("file", "house")
        previous[symbol] = previous[symbol] if close is None else close


def test_filling_takes_time_by_what_is_filled_and_room_for_so_many_symbols_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second one of a day in seconds of work, where looking each hole up among all others took minutes; and symbols of few rows
    are counted as what filling makes of them, since memory has to hold that."""
    rows = [f"{1_699_920_000 + second},1,2,1,1,5,6,3,1,1,BUSY" for second in range(0, 86_400, 2)]
    rows += [f"{1_699_920_000 + second},1,2,1,1,5,6,3,1,1,S{number}" for number in range(30) for second in (0, 7)]
    head = "time,open,high,low,close,volume,quote_volume,count,taker_base_volume,taker_quote_volume,symbol"
    Path("k.csv").write_text("\n".join([head, *rows]) + "\n")
    at_once = []

    def watched(rows: pl.DataFrame, *arguments: Any, **named: Any) -> Ordered:
        at_once.append(rows["symbol"].n_unique())
        return ordered(rows, *arguments, **named)

    monkeypatch.setattr(importing, "ordered", watched)
    began_s = time.process_time()
    told = imported("k.csv", "--fill-quiet", "--dry-run")
    assert time.process_time() - began_s < 5
    assert (told["holes"], told["filled"]) == (0, 43_199 + 30 * 6)
    assert sum(at_once) == 31
    assert max(at_once) * 86_400 <= 1_000_000


BAD = {
    "BTCUSDT,1700000001000,1,2,0.5,x,5,6,3,1,1": "close: expected a number of up to 15 digits before the point",
    "BTCUSDT,1700000002000,1,2,3,1,5,6,3,1,1": "low lies above high",
    "BTCUSDT,1700000003000,5,2,1,1,5,6,3,1,1": "open or close lies outside of low and high",
    "BTCUSDT,1700000004000,1,2,1,1,-5,6,3,1,1": "base_volume: below 0",
    "BTC USDT,1700000005000,1,2,1,1,5,6,3,1,1": "expected a symbol of letters, digits or _ - .",
    "BTCUSDT,1700000006500,1,2,1,1,5,6,3,1,1": "the open time is no whole interval",
    "BTCUSDT,yesterday,1,2,1,1,5,6,3,1,1": "expected a time: a number, or text such as 2024-01-02T03:04:05Z",
    "BTCUSDT,3700000007000,1,2,1,1,5,6,3,1,1": "the time lies in the future",
    "BTCUSDT,1700000008000,1,2,1,1,5,6": "expected as many cells as there are columns",
    "BTCUSDT,1700000009000,0,2,0,1,5,6,3,1,1": "open: expected a price above 0 and below 9.2e10",
    "BTCUSDT,1700000010000,1,2,1,1,0.123456789,6,3,0,1": "base_volume: more than 8 decimals",
    "BTCUSDT,1700000011000,1,2,1,1,5,6,3.5,1,1": "trades: expected an integer from 0",
    "BTCUSDT,1700000012000,1,2,1,1,5,6,3,7,1": "taker_base_volume lies above base_volume",
    "A:B,1700000013000,1,2,1,1,5,6,3,1,1": "expected a symbol of letters, digits or _ - .",
    "BTCUSDT,20240102,1,2,1,1,5,6,3,1,1": "expected a time, not a date without dashes",
    "BTCUSDT,1700000014000,1,2,1,1,nan,6,3,1,1": "base_volume: expected a number of up to 15 digits before the point",
}


def test_each_bad_row_is_told_with_its_number_its_reason_and_its_text() -> None:
    """And the good ones around them are taken, numbers in other writings too."""
    good = ["btcusdt,2023-11-14T22:13:20Z,1e0,2.,.5,1.000000000,5,6,3,1,1", "BTCUSDT,1700000100,1,2,1,1,5,6,3,1,1"]
    Path("k.csv").write_text("\n".join([HEAD, good[0], *BAD, "", good[1]]) + "\n")
    told = imported("k.csv")
    with Path(told["report"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["row"], row["reason"], row["raw"]) for row in rows] == [
        ("k.csv", str(number), reason, raw) for number, (raw, reason) in enumerate(BAD.items(), 2)
    ]
    assert (told["read"], told["accepted"], sum(told["rejected"].values())) == (len(BAD) + 2, 2, len(BAD))
    assert rows_of("crypto_kline_data", "open_time_ms, low") == [
        ("HOUSE:BTCUSDT", 1_700_000_000_000, pytest.approx(0.5)),
        ("HOUSE:BTCUSDT", 1_700_000_100_000, 1),
    ]


def test_floats_of_parquet_are_their_shortest_text() -> None:
    """0.1 is 0.1 and not what a float holds; so are times that a column of floats holds."""
    columns = {"ts": [1700000000000.0, 1700000001123.0], "price": [0.1, 1e-7], "qty": [1234567.1, 3e10], "side": ["buy", "SELL"]}
    pq.write_table(pa.table(columns), "t.parquet")
    told = imported("t.parquet", "--kind", "trades", "--symbol", "x")
    assert told["accepted"] == 2
    assert rows_of("trades", "time_us, price, quantity, buyer_is_maker") == [
        ("HOUSE:X", 1_700_000_000_000_000, Decimal("0.1"), Decimal("1234567.1"), False),
        ("HOUSE:X", 1_700_000_001_123_000, Decimal("1e-7"), Decimal(30_000_000_000), True),
    ]


def test_decimals_of_parquet_are_what_they_say_however_small() -> None:
    """Nothing, and one digit at the last place, in a column of decimals."""
    small = pa.array([Decimal(0), Decimal("1e-8"), Decimal("12e-8"), Decimal(3)], pa.decimal128(38, 8))
    times, ones = [1700000000000 + 1000 * n for n in range(4)], pa.array([Decimal(1)] * 4, pa.decimal128(20, 8))
    columns = {"time": times} | dict.fromkeys(PRICES, ones) | dict.fromkeys(VOLUMES, small) | {"count": [1] * 4}
    pq.write_table(pa.table(columns), "k.parquet")
    assert imported("k.parquet", "--symbol", "x")["rejected"] == {}
    assert [volume for _, volume in rows_of("crypto_kline_data", "base_volume")] == small.to_pylist()


@pytest.mark.parametrize("price", ["0.00000045", "0.00000001", "10.50000000", "91234567890.12345678"])
def test_candles_of_any_price_are_read_from_their_record(price: str) -> None:
    """A coin of less than a millionth too: exactly, by who reads candles."""
    one, zero = Decimal(price), Decimal("0.00000001")
    decimal = pl.Decimal(38, 8)
    values = {"symbol": "HOUSE:X", "time_us": 1_700_000_040_000_000, **dict.fromkeys(PRICES, one)}
    values |= dict.fromkeys(("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume"), zero)
    values |= {"trades": 1, "first_id": None, "last_id": None, "newest_id": None, "proof": "none"}
    ids = dict.fromkeys(("first_id", "last_id", "newest_id"), pl.Int64())
    rows = pl.DataFrame([values], schema_overrides=dict.fromkeys((*PRICES, "base_volume"), decimal) | ids)
    [record] = candle_records(rows, "1m", 60_000)
    table = decode_history(record.value or b"", 0).table
    assert table[candles.OPEN : candles.CLOSE + 1, 0].tolist() == [int(one * UNIT)] * 4
    assert table[list(candles.VOLUMES[0]), 0].tolist() == [0, 1]


@pytest.mark.parametrize(("kind", "head", "row"), [
    ("klines", f"{HEAD},first_trade_id,last_trade_id", "X,1700000000000,1,2,1,1,5,6,3,1,1"),
    ("trades", "symbol,time,price,quantity,agg_trade_id,first_trade_id,last_trade_id", "X,1700000000000,1,2,7"),
])  # fmt: skip  # a line a kind
def test_a_first_id_needs_a_last_one(kind: str, head: str, row: str) -> None:
    """A row with only one of them is told; one with neither is taken, whatever its ids are called where there are none."""
    Path("f.csv").write_text("\n".join([head, f"{row},1,", f"{row},,3", f"{row},-1,"]) + "\n")
    told = imported("f.csv", "--kind", kind)
    assert rejected(told) == [(row, "first id and last id: expected both or neither") for row in ("1", "2")]
    assert told["accepted"] == 1


def test_without_ids_two_trades_alike_are_two() -> None:
    """Nobody can tell a repeat from a second trade; nothing proves them."""
    Path("t.csv").write_text("time,price,amount,symbol\n" + "1700000000000,1,2,a\n" * 3)
    told = imported("t.csv", "--kind", "trades")
    assert (told["accepted"], told["repeated"], told["proved"]) == (3, 0, 0)


def test_candles_and_columns_said_outright() -> None:
    """Without a header, by --columns or as the exchange's bulk files have them; what lacks is refused, or 0 if somebody says so."""
    Path("c.csv").write_text("BTC,1700000040,1,2,0.5,1.5,7\n")
    refused = invoked("c.csv", "--source", "house", "--interval", "1m", "--columns", "symbol,time,open,high,low,close,base_volume")
    assert "--zero-missing" in str(refused.exception)
    said = ("--interval", "1m", "--columns", "symbol,time,open,high,low,close,base_volume", "--zero-missing")
    assert imported("c.csv", *said)["accepted"] == 1
    assert rows_of("crypto_candle_history", "open_time_ms, close_time_ms, quote_volume, trades") == [
        ("HOUSE:BTC-2023-11", 1_700_000_040_000, 1_700_000_099_999, 0, 0)
    ]


def test_an_archive_s_rows_stay_and_others_are_rejected() -> None:
    """A second file with the same rows changes nothing; with other content it is told of; the archive proves itself after both."""
    Path("a.csv").write_text(f"{HEAD}\nX,1700000000000,1,2,1,1,5,6,3,1,1\nX,1700000001000,1,2,1,1,5,6,3,1,1\n")
    Path("b.csv").write_text(
        f"{HEAD}\nX,1700000000000,1,2,1,1,5,6,3,1,1\nX,1700000001000,1,2,1,2,5,6,3,1,1\nX,1700000002000,1,2,1,1,5,6,3,1,1\n"
    )
    imported("a.csv")
    told = imported("b.csv")
    assert (told["accepted"], told["there"], rejected(told)) == (
        2,
        1,
        [("2", "another row of the same time or id came first, with other content")],
    )
    assert [close for _, close in rows_of("crypto_kline_data", "close")] == [1, 1, 1]
    proved = CliRunner().invoke(app, ["archive", "verify"])
    assert proved.exit_code == 0, proved.output
    again = invoked("--source", "house", "b.csv")
    assert "imported before" in again.output


def test_an_import_killed_at_its_very_end_leaves_an_archive_that_proves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stretches are written, and only the list of them isn't: the next start still knows where they went."""
    Path("a.csv").write_text(f"{HEAD}\nX,1700000000000,1,2,1,1,5,6,3,1,1\nX,1700100001000,1,2,1,1,5,6,3,1,1\n")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "finish", killed)
        assert invoked("--source", "house", "a.csv").exit_code != 0
    assert imported("a.csv")["accepted"] == 2
    [source] = (ARCHIVE / "_sources").glob("*.json")
    assert len(json.loads(source.read_bytes())["places"]) == 2
    proved = CliRunner().invoke(app, ["archive", "verify"])
    assert proved.exit_code == 0, proved.output


def test_what_the_configuration_puts_before_topics_is_no_prefix_of_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue's live topics stay live ones: they aren't made anew, to keep records for ever, nor expected to be empty."""
    monkeypatch.setenv("KLINESTREAM_KAFKA__TOPIC_PREFIX", "venue.")
    made = []

    def opened(_self: Topics, kafka: KafkaConfig, _form: Form, *, is_new: bool, is_live: bool) -> None:
        made.append((kafka.topic_prefix, is_new, is_live))

    monkeypatch.setattr(Topics, "__init__", opened)
    form = Form("klines", "1s", 1000, "house")
    for prefix in ("", "own."):
        kafka = import_files._connection(config.load(), prefix)
        import_files._target(config.load(), kafka, form, "topics", "", is_live=not prefix, is_new=True)
    assert made == [("venue.", True, True), ("own.", True, False)]


def test_a_dry_run_writes_nothing_and_what_makes_no_sense_is_refused() -> None:
    """Each refusal names the option."""
    Path("a.csv").write_text(f"{HEAD}\nX,1700000000000,1,2,1,1,5,6,3,1,1\n")
    assert imported("a.csv", "--dry-run")["accepted"] == 1
    assert imported("a.csv", "--dry-run")["accepted"] == 1
    Path("bars").mkdir()
    assert not ARCHIVE.exists()
    for arguments, expected in (
        (("nowhere.csv",), "expected files that are there"),
        ((".",), "expected files, or patterns of them, got the folder .: give a pattern such as './*.csv'"),
        (("bar*",), "expected files that are there, or patterns of such, got bar*"),
        (("a.csv", "--to", "topics", "--prefix", "a b"), "--prefix: expected up to 50 letters, digits or . _ -, got 'a b'"),
        (("a.csv", "--kind", "bars"), "--kind"),
        (("a.csv", "--to", "moon"), "--to"),
        (("a.csv", "--interval", "7m"), "--interval"),
        (("a.csv", "--kind", "trades"), "expected columns for price, got symbol"),
    ):
        assert expected in str(invoked("--source", "house", *arguments).exception)
    assert "--as-binance" in str(invoked("--source", "binance", "a.csv").exception)
    assert "--prefix" in str(invoked("--source", "binance", "--as-binance", "--to", "topics", "a.csv").exception)

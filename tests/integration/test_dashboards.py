"""Every query of every dashboard on a real PostgreSQL, over the engine's own records, as the user that dashboards read with."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import talib

from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import HOUR_MS, INTERVALS
from klinestream.market.ledger import Ledger
from klinestream.market.tables import TABLES
from klinestream.market.topics import AGGREGATES, CANDLES, PIPELINE_EVENTS, SIGNALS
from klinestream.stack import database
from klinestream.stores.postgres.migrating import migrate
from klinestream.stores.postgres.partitions import Partitions
from tests.dashboard_market import SYMBOLS, YOUNG, Market, market
from tests.dashboard_queries import ASKED
from tests.dashboard_rows import fill
from tests.grafana import Look
from tests.integration.running_postgres import TestPostgres, running_postgres

READER = Path(__file__).parents[2] / "deploy" / "grafana" / "reader.sql"
READER_PASSWORD = "for-reading-only"  # noqa: S105  # of a server that lives for this module
DAY_MS = 24 * HOUR_MS
Row = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """The dashboards over a database with a market in it."""

    market: Market
    reader: "psycopg.Connection[Row]"

    @property
    def look(self) -> Look:
        """The last day, by the second."""
        return Look(self.market.now_ms - DAY_MS, self.market.now_ms, "1s")

    def statement(self, name: str, look: Look | None = None, **chosen: Any) -> str:
        """What the database is asked."""
        return ASKED[name].statement(look or self.look, **chosen)

    def rows(self, name: str, look: Look | None = None, **chosen: Any) -> list[Row]:
        """What the panel gets."""
        return self.reader.execute(self.statement(name, look, **chosen).encode()).fetchall()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPostgres]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def shown(postgres: TestPostgres) -> Iterator[Shown]:
    found = market(time.time_ns() // 1_000_000)
    environment = os.environ | {"KLINESTREAM_READER_PASSWORD": READER_PASSWORD, "PGPASSWORD": postgres.password}
    psql = [str(database.programs() / "psql"), "--no-psqlrc", "--quiet", "--file", str(READER), postgres.url]
    for _ in range(2):  # a second run changes nothing
        subprocess.run(psql, check=True, env=environment, timeout=60)
    with postgres.connect() as writer:
        migrate(writer, "klinestream")
        partitions = Partitions(writer)
        for table in TABLES:
            partitions.require(table, [found.now_ms - 90 * DAY_MS])
        fill(writer, found.records)
    address = psycopg.conninfo.make_conninfo(postgres.url, user="klinestream_reader", password=READER_PASSWORD)
    with psycopg.connect(address, autocommit=True, row_factory=psycopg.rows.dict_row) as reader:
        yield Shown(found, reader)


@pytest.mark.parametrize("name", ASKED)
def test_every_query_gives_what_its_panel_draws(name: str, shown: Shown) -> None:
    """Rows; for series a time in order and numbers, by name; for marks a time and a text; for a chooser one column of text."""
    rows = shown.rows(name)
    assert rows, f"no rows: {shown.statement(name)}"
    columns = list(rows[0])
    match ASKED[name].shape:
        case "variable":
            assert len(columns) == 1
            assert all(isinstance(row[columns[0]], str) for row in rows)
        case "annotation":
            assert columns == ["time", "text", "tags"]
            assert all(row["time"] and row["text"] for row in rows)
        case "time_series":
            assert columns[0] == "time"
            times = [row["time"] for row in rows]
            assert times == sorted(times)
            numbers = columns[2:] if "metric" in columns else columns[1:]
            assert numbers
            assert all(row[each] is None or float(row[each]) is not None for row in rows for each in numbers)
        case _:
            assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("name", [each for each, query in ASKED.items() if "$__time" in query.sql])
def test_a_query_leaves_partitions_alone_that_the_time_shown_is_not_in(name: str, shown: Shown) -> None:
    """No partition of three months ago is looked at."""
    plan = "\n".join(row["QUERY PLAN"] for row in shown.reader.execute(f"EXPLAIN {shown.statement(name)}".encode()))
    old = datetime.fromtimestamp(shown.market.now_ms / 1000, UTC) - timedelta(days=90)
    assert f"_{old:%Y%m}" not in plan, plan


def test_the_reader_only_reads(shown: Shown) -> None:
    """The dashboards' user can change nothing."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        shown.reader.execute("DELETE FROM klinestream.candles")
    shown.reader.execute("SET default_transaction_read_only = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shown.reader.execute("DELETE FROM klinestream.candles")


def test_choosers_offer_what_is_there(shown: Shown) -> None:
    """Every symbol with a candle, and the intervals that the chosen one has, from short to long."""
    assert [row["symbol"] for row in shown.rows("market: variable symbol")] == sorted(SYMBOLS)
    assert [row["interval"] for row in shown.rows("market: variable interval")] == ["1m", "5m", "1h"]
    assert shown.rows("market: variable interval", symbol="NOBODY'S") == []


def candles(shown: Shown, symbol: str, interval: str) -> list[Row]:
    """The candles that were published, in order of time."""
    found = [each for each in shown.market.records[CANDLES.name] if each["s"] == symbol and each["i"] == interval]
    return sorted(found, key=lambda each: int(str(each["t"])))


def in_look(shown: Shown, time_ms: Any) -> bool:
    return shown.look.from_ms <= time_ms <= shown.look.to_ms


@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_candles_are_those_that_were_published(interval: str, shown: Shown) -> None:
    """Open, high, low, close and the takers' volumes of each candle in the time shown, none more."""
    wanted = [each for each in candles(shown, "ETHUSDT", interval) if in_look(shown, each["t"])]
    drawn = shown.rows("market: $symbol, $interval A", symbol="ETHUSDT", interval=interval)
    assert [round(row["time"].timestamp() * 1000) for row in drawn] == [each["t"] for each in wanted]
    assert [[row[name] for name in ("open", "high", "low", "close")] for row in drawn] == [
        [float(str(each[name])) for name in "ohlc"] for each in wanted
    ]
    volumes = shown.rows("market: Volume A", symbol="ETHUSDT", interval=interval)
    assert [row["bought by takers"] for row in volumes] == [float(str(each["V"])) for each in wanted]
    assert [row["bought by takers"] + row["sold by takers"] for row in volumes] == pytest.approx([float(str(each["v"])) for each in wanted])


def by_name(rows: list[Row]) -> dict[str, dict[int, float | None]]:
    found: dict[str, dict[int, float | None]] = {}
    for row in rows:
        found.setdefault(row["metric"], {})[round(row["time"].timestamp() * 1000)] = row["value"]
    return found


def test_indicators_are_what_ta_lib_says(shown: Shown) -> None:
    """Averages, RSI, MACD and bands of the newest hour equal TA-Lib's of the same closes."""
    whole = candles(shown, "BTCUSDT", "1m")
    times = [int(str(each["t"])) for each in whole]
    closes = np.array([float(str(each["c"])) for each in whole])
    macd = talib.MACD(closes, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(closes, 20, 2.0, 2.0)
    wanted = {
        "market: $symbol, $interval B": {f"sma_{p}": talib.SMA(closes, p) for p in (20, 50)}
        | {f"ema_{p}": talib.EMA(closes, p) for p in (12, 26)},
        "market: RSI A": {"rsi_14": talib.RSI(closes, 14)},
        "market: MACD A": {f"macd{name}_12_26_9": values for name, values in zip(("", "_signal", "_histogram"), macd, strict=True)},
        "market: Bollinger bands A": {
            f"bollinger_{name}_20_2": values for name, values in (("upper", upper), ("middle", middle), ("lower", lower))
        },
    }
    for name, columns in wanted.items():
        drawn = by_name(shown.rows(name))
        assert columns.keys() <= drawn.keys()
        for column, values in columns.items():
            newest = [drawn[column][time_ms] for time_ms in times[-60:]]
            assert newest == pytest.approx(list(values[-60:]), rel=1e-6, abs=1e-6), column


def test_a_value_that_has_not_converged_is_not_drawn(shown: Shown) -> None:
    """Of the young symbol, three hours old, the RSI begins with its 151st candle; what was there before stays empty."""
    drawn = by_name(shown.rows("market: RSI A", symbol=YOUNG))["rsi_14"]
    first = int(str(candles(shown, YOUNG, "1m")[0]["t"]))
    begun = [time_ms for time_ms, value in drawn.items() if value is not None]
    assert min(begun) == first + 150 * INTERVALS["1m"]
    assert len(drawn) > len(begun)


def test_windows_are_the_means_of_their_klines(shown: Shown) -> None:
    """By the second: the mean of the last three closes, and the close itself."""
    closes = {each.close_time_ms: each.close / 1e8 for each in shown.market.klines if each.symbol == "BTCUSDT"}
    drawn = {int(row["time"]) * 1000: row for row in shown.rows("market: Average price A")}
    checked = 0
    for second_ms, row in drawn.items():
        parts = [closes.get(second_ms - back * SECOND_MS - 1) for back in range(3)]
        if None not in parts:
            assert row["close"] == pytest.approx(parts[0], rel=1e-12)
            assert row["average"] == pytest.approx(sum(filter(None, parts)) / 3, rel=1e-12)
            checked += 1
    assert checked > 200
    ready = [row["rsi"] for row in shown.rows("market: RSI of windows A") if row["rsi"] is not None]
    assert ready
    assert all(0 <= value <= 100 for value in ready)


def test_a_coarser_step_averages_over_all_windows(shown: Shown) -> None:
    """By the minute, each point is the mean of all windows that end in it."""
    end = shown.look.to_ms
    [(minute, close)] = [(row["time"], row["close"]) for row in shown.rows("market: Average price A", Look(end - DAY_MS, end, "1m"))][2:3]
    fine = [row["close"] for row in shown.rows("market: Average price A") if row["time"] // 60 * 60 == minute]
    assert len(fine) == 60
    assert close == pytest.approx(sum(fine) / 60, rel=1e-9)


def day_of(shown: Shown, symbol: str) -> tuple[float | None, float, float, float]:
    """Change in percent, low, high and volume over the newest 1,440 minutes, by plain sums."""
    day = candles(shown, symbol, "1m")[-1440:]
    change = None if len(day) < 1440 else 100 * (float(str(day[-1]["c"])) / float(str(day[0]["o"])) - 1)
    return change, min(float(str(c["l"])) for c in day), max(float(str(c["h"])) for c in day), sum(float(str(c["v"])) for c in day)


def number(value: Any) -> float | None:
    return None if value is None else float(value)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbols_day_is_that_of_its_minutes(symbol: str, shown: Shown) -> None:
    """Change, low, high and volume, on the market's dashboard and in the table of all symbols; no change without a whole day."""
    change, low, high, volume = day_of(shown, symbol)
    [day] = shown.rows("market: 24 hours A", symbol=symbol)
    [line] = [row for row in shown.rows("aggregates: Symbols over 24 hours A") if row["symbol"] == symbol]
    for found in (day, line):
        assert number(found["change"]) == (change if change is None else pytest.approx(change, abs=1e-9))
        assert [number(found[name]) for name in ("low", "high", "volume")] == pytest.approx([low, high, volume])
    assert number(line["price"]) == float(str(candles(shown, symbol, "1m")[-1]["c"]))


def test_symbols_are_in_order_of_their_change(shown: Shown) -> None:
    """Best first, those without a whole day last; the two rankings hold both ends."""
    changes = {symbol: day_of(shown, symbol)[0] for symbol in SYMBOLS}
    known = sorted((symbol for symbol in SYMBOLS if changes[symbol] is not None), key=lambda symbol: -(changes[symbol] or 0))
    assert [row["symbol"] for row in shown.rows("aggregates: Symbols over 24 hours A")] == [*known, YOUNG]
    assert [row["symbol"] for row in shown.rows("aggregates: Up most A")] == known
    assert [row["symbol"] for row in shown.rows("aggregates: Down most A")] == known[::-1]
    [counts] = shown.rows("aggregates: Symbols A")
    assert list(counts.values()) == [
        len(SYMBOLS),
        sum((c or 0) > 0 for c in changes.values()),
        sum((c or 0) < 0 for c in changes.values()),
        1,
    ]
    assert {each["s"] for each in shown.market.records[AGGREGATES.name]} == set(SYMBOLS)


def signals(shown: Shown, **wanted: str) -> list[dict[str, Any]]:
    """Those in the time shown with these fields."""
    found = [each for each in shown.market.records[SIGNALS.name] if in_look(shown, each["T"])]
    return [each for each in found if all(each[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_lists_hold_each_signal_once_the_newest_first(side: str, shown: Shown) -> None:
    """Buys and sells that stand, with the time at which their candle closed."""
    wanted = sorted(signals(shown, side=side, state="fired"), key=lambda each: (-each["T"], each["s"], each["i"], each["rule"]))
    assert len(wanted) > 10
    rows = shown.rows(f"signals: {side.capitalize()} A")
    assert [(round(row["time"].timestamp() * 1000), row["symbol"], row["interval"], row["rule"], row["side"]) for row in rows] == [
        (each["T"], each["s"], each["i"], each["rule"], side) for each in wanted
    ]
    assert [(row["price"], row["value"], row["threshold"], row["reason"]) for row in rows] == [
        (each["price"], each["value"], each["limit"], each["reason"]) for each in wanted
    ]


def test_choices_narrow_the_lists(shown: Shown) -> None:
    """Several symbols, an interval and a rule at once."""
    chosen = {"symbol": ["BTCUSDT", YOUNG], "interval": ["5m"], "rule": ["rsi"]}
    found = shown.rows("signals: Buy A", **chosen)
    assert len(found) == sum(each["s"] in chosen["symbol"] for each in signals(shown, side="buy", state="fired", i="5m", rule="rsi")) > 0


def test_counts_are_those_of_the_lists(shown: Shown) -> None:
    """Altogether, by rule, and by day of UTC."""
    standing, withdrawn = signals(shown, state="fired"), signals(shown, state="withdrawn")
    [counts] = shown.rows("signals: In this time A")
    sides = Counter(each["side"] for each in standing)
    assert list(counts.values()) == [sides["buy"], sides["sell"], len(withdrawn), len({each["s"] for each in standing})]
    assert len(withdrawn) == 1
    rules = Counter((each["rule"], each["side"]) for each in standing)
    assert {(row["rule"], row["side"]): row["signals"] for row in shown.rows("signals: By rule A")} == rules
    for name in ("side", "rule"):
        days = Counter((each["T"] // DAY_MS * 86_400, each[name]) for each in standing)
        assert {(int(row["time"]), row["metric"]): row["signals"] for row in shown.rows(f"signals: A day, by {name} A")} == days


def test_marks_stand_at_the_candles_that_fired(shown: Shown) -> None:
    """On the market's dashboard, of the chosen symbol and interval."""
    for side in ("buy", "sell"):
        wanted = sorted(each["t"] for each in signals(shown, s="BTCUSDT", i="5m", side=side, state="fired"))
        marks = [round(row["time"].timestamp() * 1000) for row in shown.rows(f"market: {side.capitalize()} signals", interval="5m")]
        assert [mark for mark in marks if mark >= shown.look.from_ms + 300_000] == [t for t in wanted if t >= shown.look.from_ms + 300_000]
        assert marks


def test_gaps_are_as_the_ledger_has_them(shown: Shown) -> None:
    """Open ones and the history: of each gap the state that counts, whoever told it."""
    ledger = Ledger()
    for gap in shown.market.gaps:
        ledger.add(gap)
    open_ones = {(gap.record.symbol, gap.record.from_ms): (gap.record.state, gap.record.klines) for gap in ledger.open_gaps()}
    rows = shown.rows("health: Open gaps A")
    assert {(row["symbol"], round(row["from"].timestamp() * 1000)): (row["state"], row["found"]) for row in rows} == open_ones
    assert len(open_ones) == 2
    history = {
        (row["symbol"], round(row["from"].timestamp() * 1000)): (row["state"], row["seconds"], row["found"], row["source"], row["reason"])
        for row in shown.rows("health: History of gaps A")
    }
    counting = [gap.record for gap in ledger.gaps()]
    assert history == {(one.symbol, one.from_ms): (one.state, one.seconds, one.klines, one.source, one.reason) for one in counting}
    missing = Counter[str]()
    for row in shown.rows("health: Missing seconds A"):
        missing[row["metric"]] += row["seconds"]
    assert sum(missing.values()) == sum(gap.record.seconds for gap in ledger.gaps())


def test_ages_and_events_are_now(shown: Shown) -> None:
    """Data is as old as its newest window; events come newest first."""
    newest_s = max(each.close_time_ms for each in shown.market.klines) / 1000
    before_s = time.time()
    [age] = shown.rows("market: Data age A")
    # The newest window ends up to half a second after its newest kline.
    assert before_s - newest_s - 1 <= float(age["age"]) <= time.time() - newest_s
    [price] = shown.rows("market: Price A")
    assert price["price"] == [each.close for each in shown.market.klines if each.symbol == "BTCUSDT"][-1] / 1e8
    events = [row["event"] for row in shown.rows("health: Events A")]
    assert events == [
        each["event"] for each in sorted(shown.market.records[PIPELINE_EVENTS.name], key=lambda each: -int(str(each["time"])))
    ]
